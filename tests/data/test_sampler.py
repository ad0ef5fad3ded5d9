import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from specialm.common.errors import UserError
from specialm.data.sampler import Sampler, permute

seeds = st.integers(0, 2**31)


@given(st.integers(1, 3000), st.integers(0, 2**63))
def test_permute_is_a_permutation(size, key):
    values = permute(np.arange(size), size, np.uint64(key))
    assert sorted(values.tolist()) == list(range(size))


def test_permute_mixes():
    """Neighbours do not stay neighbours, and different keys agree no more often than chance."""
    a, b = (permute(np.arange(4096), 4096, np.uint64(key)) for key in (1, 2))
    assert abs(np.corrcoef(np.arange(4096), a)[0, 1]) < 0.06
    assert (a == b).sum() < 12
    assert (np.abs(np.diff(a)) == 1).sum() < 12


def clustered(seed, windows=4000, k=16):
    rng = np.random.default_rng(seed)
    cluster_N = rng.choice(k, windows, p=rng.dirichlet(np.ones(k)))
    probability_K = rng.dirichlet(np.full(k, 0.3))
    probability_K[np.bincount(cluster_N, minlength=k) == 0] = 0
    return cluster_N, probability_K / probability_K.sum()


@given(seeds)
def test_uniform_epochs_hold_every_window_once(seed):
    sampler = Sampler(101, 10, seed)
    first, second = sampler.draws(0, 101)[0], sampler.draws(101, 202)[0]
    assert sorted(first) == sorted(second) == list(range(101))
    assert first.tolist() != second.tolist()


@given(seeds)
def test_windows_come_from_their_clusters_evenly(seed):
    cluster_N, probability_K = clustered(seed)
    sampler = Sampler(len(cluster_N), 64, seed, cluster_N, probability_K)
    window, cluster = sampler.draws(0, len(cluster_N))
    np.testing.assert_array_equal(cluster_N[window], cluster)
    drawn = np.bincount(cluster, minlength=16)
    assert np.abs(drawn - probability_K * len(cluster_N)).max() < 1.0 + 1e-6
    times = np.bincount(window, minlength=len(cluster_N))
    for c in np.flatnonzero(drawn):
        inside = times[cluster_N == c]
        assert inside.max() - inside.min() <= 1


def test_chi_square_against_the_weights():
    """Part of an epoch, and many epochs: the clusters follow the distribution, and windows inside
    a cluster are uniform."""
    for seed in (0, 1, 2):
        cluster_N, probability_K = clustered(seed)
        kept = probability_K > 0
        sampler = Sampler(len(cluster_N), 64, seed, cluster_N, probability_K)
        for draws in (1500, 200_000):
            window, cluster = sampler.draws(0, draws)
            counts = np.bincount(cluster, minlength=16)[kept]
            p = stats.chisquare(counts, probability_K[kept] * draws).pvalue
            assert p > 1e-3, (seed, draws, p)
        expected_N = (probability_K / np.maximum(np.bincount(cluster_N, minlength=16), 1))[
            cluster_N
        ] * draws
        seen = expected_N > 5
        statistic = (
            (np.bincount(window, minlength=len(cluster_N)) - expected_N)[seen] ** 2
            / expected_N[seen]
        ).sum()
        assert stats.chi2.sf(statistic, seen.sum() - 1) > 1e-3, seed


def test_each_slot_has_the_wanted_distribution():
    """Over seeds, even the first draw alone follows the weights: nothing is biased by rounding."""
    cluster_N = np.repeat([0, 1, 2], [5, 2, 3])
    probability_K = np.array([0.07, 0.6, 0.33])
    first = [
        Sampler(10, 1, seed, cluster_N, probability_K).draws(0, 1)[1][0] for seed in range(4000)
    ]
    counts = np.bincount(first, minlength=3)
    assert stats.chisquare(counts, probability_K * 4000).pvalue > 1e-3, counts


@given(seeds, st.integers(0, 50))
def test_a_batch_is_a_function_of_seed_and_step(seed, step):
    cluster_N, probability_K = clustered(seed, windows=300)
    sampler = Sampler(300, 16, seed, cluster_N, probability_K)
    sampler.indices(step + 7)  # what was read before does not matter
    again = Sampler(300, 16, seed, cluster_N, probability_K)
    np.testing.assert_array_equal(again.indices(step), sampler.indices(step))


def test_a_cluster_that_comes_again_is_grouped_anew():
    """12 windows in groups of 4, four times in an epoch: each time once, in other company."""
    drawn = Sampler(48, 4, 3, np.arange(48) // 12, np.array([1.0, 0, 0, 0]), group=4)
    groups = [frozenset(drawn.indices(step).tolist()) for step in range(12)]
    assert collections.Counter(i for group in groups for i in group) == dict.fromkeys(range(12), 4)
    assert len(set(groups)) > 9


def test_errors():
    with pytest.raises(UserError, match="no windows to train on"):
        Sampler(0, 4, 0)
    with pytest.raises(UserError, match=r"clusters \[1\] have probability but no window"):
        Sampler(3, 4, 0, np.zeros(3, int), np.array([0.5, 0.5]))
    with pytest.raises(UserError, match="3 clusters were given for 4 windows"):
        Sampler(4, 4, 0, np.zeros(3, int), np.ones(1))
