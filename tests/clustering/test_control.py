"""The control of importance sampling is as uneven as it, of other text."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from specialm.clustering import control, weights
from specialm.clustering.repetition import Budget


def report(seed, k=64, cap=0.0, uniform=0.0, draws=40_000, empty=0):
    rng = np.random.default_rng(seed)
    counts_K = rng.multinomial(20_000, rng.dirichlet(np.full(k, 2.0)))
    counts_K[:empty] = 0
    aimed_K = counts_K * rng.gamma(0.3, size=k)  # large clusters have more of any text
    special_K = rng.multinomial(3000, aimed_K / aimed_K.sum())
    special_K[empty] += 1
    return weights.report("d", counts_K, special_K, 0.0, draws, budget=Budget(cap, uniform))


def effective(probability_K, counts_K):
    """(sum w)^2 / sum w^2 over the windows, each written out."""
    w_N = np.repeat(probability_K / np.maximum(counts_K, 1), counts_K)
    return w_N.sum() ** 2 / (w_N**2).sum()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([40, 64, 200]),
    st.sampled_from([0.0, 4.0, 8.0, 16.0]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0, 3]),
)
def test_the_control_has_the_effective_sample_and_keeps_the_cap(seed, k, cap, uniform, empty):
    made = report(seed, k, cap, uniform, empty=empty)
    assume(not made.capped.short)
    counts_K = made.generic_counts_K
    found = made.cap(control.matched(made, seed))
    assert found.probability_K.sum() == pytest.approx(1)
    assert (found.probability_K[counts_K == 0] == 0).all()
    own = effective(made.drawn_K, counts_K)
    of_all = made.budget.mixed(found.probability_K, counts_K)
    assert effective(of_all, counts_K) == pytest.approx(own, rel=0.01)
    if cap:
        rates = 40_000 * of_all / np.maximum(counts_K, 1)
        assert rates.max() <= cap * (1 + 1e-6)


def test_a_shuffle_between_clusters_of_any_size_repeats_otherwise():
    """What the control was before."""
    apart = 0
    for seed in range(20):
        made = report(seed, cap=8.0)
        counts_K, p_K = made.generic_counts_K, made.sampling_K
        shuffled = made.cap(np.random.default_rng(seed).permutation(p_K)).probability_K
        own, new = (
            effective(made.cap(each).probability_K, counts_K)
            for each in (p_K, control.matched(made, seed))
        )
        assert new == pytest.approx(own, rel=0.01)
        apart += abs(effective(shuffled, counts_K) / own - 1) > 0.03
    assert apart >= 12


@given(st.integers(2, 90), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_rates_move_between_clusters_of_like_size_and_none_stays(k, seed):
    rng = np.random.default_rng(seed)
    counts_k, rate_k = rng.integers(1, 1000, k).astype(float), rng.random(k)
    moved_k = control.exchanged(rate_k, counts_k, seed)
    np.testing.assert_array_equal(np.sort(moved_k), np.sort(rate_k))
    assert (moved_k != rate_k).all()
    rank_k = np.argsort(np.argsort(counts_k, kind="stable"))
    came_from = rank_k[[int(np.flatnonzero(rate_k == rate)[0]) for rate in moved_k]]
    assert np.abs(came_from - rank_k).max() < 2 * control.BLOCK
    np.testing.assert_array_equal(moved_k, control.exchanged(rate_k, counts_k, seed))


def test_seeds_differ_and_one_cluster_alone_stays():
    made = report(0)
    found = {tuple(control.matched(made, seed)) for seed in range(5)}
    assert len(found) == 5
    alone = weights.report("d", np.array([5, 0]), np.array([2, 0]), 0.0, 10)
    np.testing.assert_allclose(control.matched(alone, 0), [1, 0])


@given(st.integers(0, 10**6), st.floats(1.01, 30))
@settings(max_examples=60, deadline=None)
def test_the_scale_under_a_limit_against_bisection(seed, room):
    """s of n . min(limit, s shape) = 1, by plain bisection."""
    rng = np.random.default_rng(seed)
    n_k, shape_k = rng.integers(1, 50, 12).astype(float), rng.random(12) ** 6
    shape_k[:3] = 0
    limit = room / n_k[3:].sum()
    low, high = 0.0, 1e30
    for _ in range(300):
        s = np.sqrt(max(low, 1e-30) * high)
        low, high = (s, high) if n_k @ np.minimum(limit, s * shape_k) < 1 else (low, s)
    found_k = control._scaled(shape_k, n_k, limit)
    np.testing.assert_allclose(found_k, np.minimum(limit, high * shape_k), rtol=1e-9, atol=1e-15)
    assert n_k @ found_k == pytest.approx(1)
