"""Samplers of banks and mixtures: whose turn it is, and that no window is drawn too often."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specialm.common.errors import UserError
from specialm.data.groups import ExpertSampler, GroupSampler, HistogramSampler, MixtureSampler
from specialm.data.sampler import Sampler

seeds, steps = st.integers(0, 2**31), st.integers(0, 200)


def clustered(seed, windows, k):
    """(clusters, their probabilities, features): some clusters small, some without probability."""
    rng = np.random.default_rng(seed)
    cluster_N = rng.choice(k, windows, p=rng.dirichlet(np.full(k, 0.5)))
    probability_K = rng.dirichlet(np.full(k, 0.5)) * (np.bincount(cluster_N, minlength=k) > 0)
    return cluster_N, probability_K / probability_K.sum(), rng.normal(size=(k, 3))


def group_sampler(seed, windows=300, k=6, batch_size=16, groups=4):
    cluster_N, probability_K, features_KxC = clustered(seed, windows, k)
    sampler = GroupSampler(
        windows, batch_size, seed, cluster_N, probability_K, groups, features_KxC
    )
    return sampler, cluster_N, probability_K, features_KxC


@given(seeds, steps, st.integers(3, 300), st.integers(1, 8), st.sampled_from([1, 2, 4, 16]))
def test_a_group_is_of_one_cluster_and_has_its_features(seed, step, windows, k, groups):
    sampler, cluster_N, probability_K, features_KxC = group_sampler(seed, windows, k, groups=groups)
    cluster_GxW = cluster_N[sampler.indices(step)].reshape(groups, 16 // groups)
    assert (cluster_GxW == cluster_GxW[:, :1]).all()
    assert (probability_K[cluster_GxW] > 0).all()
    features_GxC = sampler.features(step)
    assert features_GxC.dtype == np.float32
    np.testing.assert_array_equal(features_GxC, features_KxC[cluster_GxW[:, 0]].astype(np.float32))


@given(seeds, steps)
def test_groups_are_a_function_of_seed_and_step(seed, step):
    sampler, other = (group_sampler(seed, groups=8)[0] for _ in range(2))
    sampler.indices(step + 3)  # what was read before does not matter
    np.testing.assert_array_equal(sampler.indices(step), other.indices(step))
    np.testing.assert_array_equal(sampler.features(step), other.features(step))
    assert sampler.indices(step).tolist() != sampler.indices(step + 1).tolist()


@given(seeds, st.sampled_from([2, 5, 8]))
def test_over_an_epoch_clusters_get_their_share_of_the_groups_and_windows_their_turn(seed, size):
    cluster_N, probability_K, features_KxC = clustered(seed, 200, 6)
    sampler = GroupSampler(200, 4 * size, seed, cluster_N, probability_K, 4, features_KxC)
    slots = 200 // size
    window, cluster_G = sampler.draws(0, slots)
    drawn_K = np.bincount(cluster_G, minlength=6)
    assert np.abs(drawn_K - probability_K * slots).max() < 1 + 1e-6
    times_N = np.bincount(window, minlength=200)
    for c in np.flatnonzero(drawn_K):
        assert np.ptp(times_N[cluster_N == c]) <= 1


@pytest.mark.parametrize("size", [1, 4, 8, 64])
def test_grouped_sampling_is_unbiased(size):
    """A window's expected count over an epoch is p(c) / N(c) of the draws, as that of ungrouped
    sampling (size 1), with clusters smaller than a group and groups larger than the corpus."""
    sizes_K, probability_K = np.array([1, 3, 8, 30]), np.array([0.29, 0.04, 0.43, 0.24])
    cluster_N = np.random.default_rng(0).permutation(np.repeat(np.arange(4), sizes_K))
    sampler = GroupSampler(42, 2 * size, 7, cluster_N, probability_K, 2, np.eye(4))
    slots, epochs = max(1, 42 // size), 800
    window, _ = sampler.draws(0, epochs * slots)
    epoch = np.repeat(np.arange(epochs), slots * size)
    count_ExN = np.zeros((epochs, 42))
    np.add.at(count_ExN, (epoch, window), 1)
    expected_N = (probability_K / sizes_K)[cluster_N] * slots * size
    error_N = count_ExN.std(axis=0) / np.sqrt(epochs)
    assert (np.abs(count_ExN.mean(axis=0) - expected_N) <= 4.5 * error_N + 1e-9).all()
    # The same of whole clusters, whose counts are steadier.
    cluster_ExK = count_ExN @ np.eye(4)[cluster_N]
    error_K = cluster_ExK.std(axis=0) / np.sqrt(epochs)
    difference_K = np.abs(cluster_ExK.mean(axis=0) - probability_K * slots * size)
    assert (difference_K <= 4.5 * error_K + 1e-9).all()
    assert (np.ptp(cluster_ExK, axis=0) <= size + 1e-9).all()


def test_even_the_first_group_alone_is_unbiased():
    """Over seeds: the cluster of the first group, and the first window in it."""
    sizes_K, probability_K = np.array([2, 7, 3]), np.array([0.5, 0.2, 0.3])
    cluster_N = np.repeat(np.arange(3), sizes_K)
    first = [
        GroupSampler(12, 8, seed, cluster_N, probability_K, 2, np.eye(3)).indices(0)[0]
        for seed in range(1500)
    ]
    expected_N = (probability_K / sizes_K)[cluster_N] * 1500
    assert stats.chisquare(np.bincount(first, minlength=12), expected_N).pvalue > 1e-3


def test_groups_of_one_window_are_ungrouped_sampling():
    cluster_N, probability_K, features_KxC = clustered(3, 100, 5)
    grouped = GroupSampler(100, 8, 3, cluster_N, probability_K, 8, features_KxC)
    plain = Sampler(100, 8, 3, cluster_N, probability_K)
    for step in (0, 5, 40):
        np.testing.assert_array_equal(grouped.indices(step), plain.indices(step))


def histogram_sampler(seed, batch_size=16, support=3, groups=1):
    cluster_N, _, _ = clustered(seed, 60, 6)
    share_K = np.bincount(cluster_N, minlength=6) / 60
    support = min(support, np.count_nonzero(share_K))
    sampler = HistogramSampler(batch_size, seed, cluster_N, share_K, support, groups)
    return sampler, cluster_N, share_K


@given(seeds, steps, st.integers(1, 4), st.sampled_from([1, 7, 16]), st.sampled_from([1, 2, 5]))
def test_windows_follow_the_histogram_that_is_told(seed, step, support, size, groups):
    sampler, cluster_N, share_K = histogram_sampler(seed, size * groups, support, groups)
    support = min(support, np.count_nonzero(share_K))
    features_GxK, windows = sampler.features(step), sampler.indices(step)
    assert features_GxK.dtype == np.float32 and features_GxK.shape == (groups, 6)
    assert windows.shape == (groups * size,)
    for histogram_K, drawn in zip(features_GxK, windows.reshape(groups, size), strict=True):
        assert histogram_K.sum() == pytest.approx(1, abs=1e-6) and (histogram_K >= 0).all()
        assert np.count_nonzero(histogram_K) == support and not histogram_K[share_K == 0].any()
        drawn_K = np.bincount(cluster_N[drawn], minlength=6)
        assert np.abs(drawn_K - size * histogram_K).max() < 1 + 1e-4
        assert not drawn_K[histogram_K == 0].any()


@given(seeds, steps, st.sampled_from([1, 4]))
def test_histograms_are_a_function_of_seed_and_step(seed, step, groups):
    sampler, other = (histogram_sampler(seed, groups=groups)[0] for _ in range(2))
    sampler.indices(step + 1)
    np.testing.assert_array_equal(sampler.indices(step), other.indices(step))
    np.testing.assert_array_equal(sampler.features(step), other.features(step))
    assert len(np.unique(sampler.features(step), axis=0)) == groups or sampler.support == 1


def test_histograms_of_one_cluster_draw_all_windows_alike():
    """With one cluster a group, drawn in proportion to its share, all windows are as likely."""
    sampler, _, share_K = histogram_sampler(5, batch_size=3, support=1, groups=3)
    windows = np.concatenate([sampler.indices(step) for step in range(1000)])
    assert stats.chisquare(np.bincount(windows, minlength=60)).pvalue > 1e-3
    features = np.concatenate([sampler.features(step) for step in range(1000)])
    kept = share_K > 0
    counts_K = features.sum(axis=0)
    assert stats.chisquare(counts_K[kept], share_K[kept] * 3000).pvalue > 1e-3


def test_the_weights_of_a_histogram_are_uniform_on_the_simplex():
    """Then a weight of two is uniform on [0, 1], one of three has the density 2 (1 - x)."""
    for support, law in ((2, stats.uniform()), (3, stats.beta(1, 2))):
        sampler, _, _ = histogram_sampler(5, support=support, groups=4)
        histograms = np.concatenate([sampler.features(step) for step in range(200)])
        drawn = [histogram[np.flatnonzero(histogram)[0]] for histogram in histograms]
        assert stats.kstest(drawn, law.cdf).pvalue > 1e-3


@given(seeds, steps)
def test_a_mixture_reads_what_every_expert_alone_reads(seed, step):
    cluster_N = np.random.default_rng(seed).permutation(np.arange(50) % 4)
    sampler = MixtureSampler(24, seed, cluster_N, 4)
    windows = sampler.indices(step)
    assert cluster_N[windows].tolist() == np.repeat(np.arange(4), 6).tolist()
    alone = [ExpertSampler(6, seed, cluster_N, expert).indices(step) for expert in range(4)]
    np.testing.assert_array_equal(windows, np.concatenate(alone))


@given(seeds)
def test_an_expert_reads_its_windows_in_shuffled_epochs(seed):
    cluster_N = np.random.default_rng(seed).permutation(np.arange(50) % 5)
    mine = np.flatnonzero(cluster_N == 3).tolist()
    sampler = ExpertSampler(6, seed, cluster_N, 3)
    read = np.concatenate([sampler.indices(step) for step in range(10)])
    for epoch in range(6):
        assert sorted(read[10 * epoch : 10 * epoch + 10]) == mine
    assert read[:10].tolist() != read[10:20].tolist()


def test_errors():
    cluster_N, whole_K = np.array([0, 0, 2, 2]), np.array([0.5, 0, 0.5])
    with pytest.raises(UserError, match="train.groups=3 does not divide train.batch_size=8"):
        GroupSampler(4, 8, 0, cluster_N, whole_K, 3, np.eye(3))
    with pytest.raises(UserError, match="train.groups=0"):
        GroupSampler(4, 8, 0, cluster_N, whole_K, 0, np.eye(3))
    with pytest.raises(UserError, match=r"clusters \[1\] have probability but no window"):
        GroupSampler(4, 8, 0, cluster_N, np.full(3, 1 / 3), 4, np.eye(3))
    with pytest.raises(UserError, match=r"histogram_support=3: must be between 1 and the 2 "):
        HistogramSampler(8, 0, cluster_N, whole_K, 3)
    with pytest.raises(UserError, match="train.histogram_support=0"):
        HistogramSampler(8, 0, cluster_N, whole_K, 0)
    with pytest.raises(UserError, match="train.groups=3 does not divide train.batch_size=8"):
        HistogramSampler(8, 0, cluster_N, whole_K, 2, 3)
    with pytest.raises(
        UserError,
        match=r"train.batch_size=8 is not a multiple of "
        r"model.num_experts=3",
    ):
        MixtureSampler(8, 0, cluster_N, 3)
    with pytest.raises(UserError, match=r"cluster 1 has no windows.* model.num_experts"):
        MixtureSampler(9, 0, cluster_N, 3)
    with pytest.raises(UserError, match="cluster 1 has no windows, so expert 1"):
        ExpertSampler(8, 0, cluster_N, 1)
