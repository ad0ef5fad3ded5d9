"""Importance weights against brute force over windows."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.clustering import weights
from specialm.common.errors import UserError
from specialm.data.sampler import Sampler


@st.composite
def cluster_lists(draw):
    """(k, generic_N, specialist_M): clusters of windows; they may share none."""
    k = draw(st.integers(1, 6))
    clusters = st.lists(st.integers(0, k - 1), min_size=1, max_size=40)
    return k, np.array(draw(clusters)), np.array(draw(clusters))


def windows_weights(k, generic_N, specialist_M, smoothing):
    """w(x) of each generic window, counted window by window."""
    found = []
    for c in generic_N:
        p_generic = sum(1 for g in generic_N if g == c) / len(generic_N)
        p_specialist = sum(1 for s in specialist_M if s == c) / len(specialist_M)
        found.append(((1 - smoothing) * p_specialist + smoothing * p_generic) / p_generic)
    covered = sum(1 for s in specialist_M if s in set(generic_N)) / len(specialist_M)
    return np.array(found) / ((1 - smoothing) * covered + smoothing)


@given(cluster_lists(), st.sampled_from([0.0, 0.25, 1.0]))
@settings(deadline=None, max_examples=150)
def test_weights_and_effective_sample_against_brute_force(lists, smoothing):
    k, generic_N, specialist_M = lists
    generic_K, specialist_K = weights.counts(generic_N, k), weights.counts(specialist_M, k)
    lost = sum(1 for s in specialist_M if s not in set(generic_N.tolist())) / len(specialist_M)
    assert weights.uncovered(generic_K, specialist_K) == pytest.approx(lost, abs=1e-12)
    if lost == 1 and smoothing == 0:
        with pytest.raises(UserError, match="'law'.*no generic window"):
            weights.importance_weights(generic_K, specialist_K, smoothing, "law")
        return
    weights_K = weights.importance_weights(generic_K, specialist_K, smoothing, "law")
    assert np.isfinite(weights_K).all() and (weights_K[generic_K == 0] == 0).all()
    w_N = windows_weights(k, generic_N, specialist_M, smoothing)
    np.testing.assert_allclose(weights_K[generic_N], w_N, atol=1e-12)
    assert weights_K[generic_N].mean() == pytest.approx(1)
    effective = weights.effective_sample_size(weights_K, generic_K)
    assert effective == pytest.approx(w_N.sum() ** 2 / (w_N**2).sum())
    sampling_K = weights.sampling_distribution(weights_K, generic_K)
    by_window_K = np.bincount(generic_N, w_N / w_N.sum(), minlength=k)
    np.testing.assert_allclose(sampling_K, by_window_K, atol=1e-12)


def test_worked_example():
    """Generic 4, 4, 2, 0; specialist 1, 0, 2, 1: one quarter has no generic window, and of the
    rest the shares are 1/3 and 2/3."""
    made = weights.report("med", np.array([4, 4, 2, 0]), np.array([1, 0, 2, 1]), 0.0, 30)
    np.testing.assert_allclose(made.weights_K, [1 / 3 / 0.4, 0, 2 / 3 / 0.2, 0])
    np.testing.assert_allclose(made.sampling_K, [1 / 3, 0, 2 / 3, 0])
    assert made.uncovered == 0.25
    assert made.effective_sample_size == pytest.approx(1 / (1 / 3**2 / 4 + 2**2 / 3**2 / 2))
    assert made.repetitions.most == pytest.approx(30 * (2 / 3) / 2)
    # Three epochs of ten slots: 10/3 a time for four windows (each in 5/6 of the epochs), and
    # 20/3 for two.
    distinct = 2 + 4 * (1 - (1 / 6) ** 3)
    assert made.repetitions.distinct_windows == pytest.approx(distinct)
    assert made.repetitions.mean == pytest.approx(30 / distinct)


@pytest.mark.parametrize("budget", [640, 3008, 6400, 19_200])
def test_expected_distinct_windows_are_those_of_the_sampler(budget):
    rng = np.random.default_rng(0)
    cluster_N = rng.choice(8, 3000, p=rng.dirichlet(np.ones(8)))
    specialist_K = rng.multinomial(200, rng.dirichlet(np.full(8, 0.5)))
    made = weights.report("x", weights.counts(cluster_N, 8), specialist_K, 0.1, budget)
    drawn = [
        Sampler(3000, 64, seed, cluster_N, made.sampling_K).draws(0, budget)[0]
        for seed in range(20)
    ]
    distinct = np.array([len(np.unique(windows)) for windows in drawn])
    assert made.repetitions.distinct_windows == pytest.approx(distinct.mean(), rel=0.02)
    most = np.mean([np.bincount(cluster_N[windows], minlength=8) for windows in drawn], axis=0)
    assert made.repetitions.most == pytest.approx((most / np.bincount(cluster_N)).max(), rel=0.02)


def test_generic_sampling_repeats_nothing_in_one_epoch():
    generic_K = np.array([5, 0, 7])
    made = weights.report("x", generic_K, np.array([1, 1, 1]), 1.0, 12)
    np.testing.assert_allclose(made.sampling_K, generic_K / 12)
    assert made.effective_sample_size == pytest.approx(12)
    assert made.repetitions.distinct_windows == pytest.approx(12)
    assert made.repetitions.mean == pytest.approx(1)
    assert made.repetitions.most == pytest.approx(1)


def test_histogram_and_entropy():
    cluster_N = np.array([2, 0, 2, 2], np.int32)
    np.testing.assert_array_equal(weights.counts(cluster_N, 4), [1, 0, 3, 0])
    np.testing.assert_array_equal(weights.histogram(cluster_N, 4), [0.25, 0, 0.75, 0])
    assert weights.entropy(np.full(8, 1 / 8)) == pytest.approx(np.log(8))
    assert weights.entropy(np.array([0.0, 1.0])) == 0
    with pytest.raises(ValueError, match="cluster 2 is beyond the 2 clusters"):
        weights.counts(cluster_N, 2)


def test_bad_input_is_named():
    some_K, none_K = np.array([1, 2]), np.array([0, 0])
    with pytest.raises(UserError, match="domain 'law': the specialist set has no windows"):
        weights.report("law", some_K, none_K, 0.0, 10)
    with pytest.raises(UserError, match="generic corpus has no windows"):
        weights.report("law", none_K, some_K, 0.0, 10)
    with pytest.raises(UserError, match="clustering.smoothing=1.5"):
        weights.report("law", some_K, some_K, 1.5, 10)


def test_report_as_json_and_table():
    made = weights.report("med", np.array([4, 4, 2, 0]), np.array([1, 0, 2, 1]), 0.0, 30)
    facts = json.loads(json.dumps(made.to_json()))
    assert facts["specialist_histogram"] == [0.25, 0, 0.5, 0.25]
    assert facts["generic_histogram"] == [0.4, 0.4, 0.2, 0]
    assert facts["top_fraction"] == 0.5
    assert facts["entropy"] == pytest.approx(1.5 * np.log(2))
    assert facts["effective_fraction"] == pytest.approx(made.effective_sample_size / 10)
    assert facts["max_weight"] == pytest.approx(10 / 3)
    table = made.table(top=1)
    assert "4 specialist windows, 10 generic windows, 4 clusters" in table
    assert "without generic windows    25.0%" in table
    assert table.splitlines()[-1].split() == ["2", "50.00%", "20.00%", "3.33"]
