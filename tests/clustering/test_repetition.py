"""The cap on repetitions, against what it promises."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from specialm.clustering import repetition, weights
from specialm.clustering.repetition import Budget, capped, expected
from specialm.common.errors import UserError
from specialm.data.mixed import Late
from specialm.data.sampler import Sampler

BRANCHINGS = ((6,), (2, 3), (3, 2, 2), (2, 2, 2, 2))


@st.composite
def plans(draw):
    """(probability_K, counts_K, draws, cap, families, affinity): some clusters without windows,
    trees and flat clusters, texts that are large and small for the draws."""
    branching = draw(st.sampled_from(BRANCHINGS))
    k = int(np.prod(branching))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    counts_K = rng.integers(0, draw(st.sampled_from([3, 50, 5000])), k)
    counts_K[rng.integers(k)] += 1
    probability_K = rng.dirichlet(np.full(k, draw(st.sampled_from([0.1, 1.0, 10.0]))))
    probability_K = np.where(counts_K > 0, probability_K + 1e-9, 0.0)
    draws = max(1, round(counts_K.sum() * draw(st.floats(0.01, 30))))
    cap = draw(st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0, 64.0]))
    tree = draw(st.booleans())
    families = repetition.families(branching) if tree else ()
    affinity_K = None if tree else rng.integers(0, draw(st.sampled_from([1, 3, 1000])), k)
    return probability_K / probability_K.sum(), counts_K, draws, cap, families, affinity_K


def limit(counts_K, draws, cap):
    return cap * counts_K / draws


@given(plans())
def test_no_window_is_expected_more_often_than_the_cap(plan):
    probability_K, counts_K, draws, cap, *_ = plan
    found = capped(*plan)
    assert found.probability_K.sum() == pytest.approx(1, abs=1e-12)
    assert (found.probability_K >= 0).all() and (found.probability_K[counts_K == 0] == 0).all()
    if cap * counts_K.sum() < draws:
        assert found.short
        np.testing.assert_array_equal(found.probability_K, counts_K / counts_K.sum())
        return
    assert not found.short
    assert (found.probability_K <= limit(counts_K, draws, cap) * (1 + 1e-12)).all()


@given(plans())
def test_only_what_is_above_the_cap_is_taken(plan):
    probability_K, counts_K, draws, cap, *_ = plan
    assume(cap * counts_K.sum() > draws)
    found, limit_K = capped(*plan), limit(counts_K, draws, cap)
    under = probability_K <= limit_K
    assert (found.probability_K[under] >= probability_K[under]).all()
    np.testing.assert_allclose(found.probability_K[~under], limit_K[~under], rtol=1e-12)
    taken = (probability_K - limit_K)[~under].sum()
    assert sum(found.moved.values()) == pytest.approx(taken, abs=1e-12)
    assert bool(found.moved) == (~under).any()


@given(plans())
def test_a_larger_cap_moves_less(plan):
    probability_K, counts_K, draws, cap, *order = plan
    shares = [
        sum(capped(probability_K, counts_K, draws, c, *order).moved.values())
        for c in (cap, 1.5 * cap, 4 * cap, 1000 * cap)
    ]
    assert all(a >= b - 1e-12 for a, b in zip(shares, shares[1:], strict=False))


@given(plans(), st.sampled_from([0.0, np.inf]))
def test_without_a_cap_nothing_changes_to_the_bit(plan, cap):
    probability_K, counts_K, draws, _, *order = plan
    found = capped(probability_K, counts_K, draws, cap, *order)
    np.testing.assert_array_equal(found.probability_K, probability_K)
    assert not found.moved and not found.short
    centroids_KxD = np.random.default_rng(0).normal(size=(len(counts_K), 3))
    own = Budget(cap, 0.0, centroids_KxD).capped(probability_K, counts_K, draws)
    np.testing.assert_array_equal(own.probability_K, probability_K)


@given(plans(), st.integers(0, 100))
def test_the_order_of_clusters_does_not_matter(plan, seed):
    probability_K, counts_K, draws, cap, families, affinity_K = plan
    order = np.random.default_rng(seed).permutation(len(counts_K))
    moved = capped(
        probability_K[order],
        counts_K[order],
        draws,
        cap,
        tuple(family_K[order] for family_K in families),
        None if affinity_K is None else affinity_K[order],
    )
    np.testing.assert_allclose(moved.probability_K, capped(*plan).probability_K[order], atol=1e-12)


def brute_force(probability_K, counts_K, draws, cap, families, affinity_K):
    """The same by many small steps: each cluster's excess goes where there is room nearest by."""
    limit_K = cap * counts_K / draws
    kept_K, steps = np.minimum(probability_K, limit_K), 2000
    excess_K = probability_K - kept_K
    places = [*families, np.zeros(len(counts_K), int)]
    if affinity_K is not None:
        rings = [affinity_K == value for value in np.unique(affinity_K)[::-1]]
    for level, family_K in enumerate(places):
        for family in np.unique(family_K):
            members = family_K == family
            sets = rings if affinity_K is not None and level == len(families) else [members]
            for inside in sets:
                room = (limit_K - kept_K)[inside].sum()
                excess = excess_K[members].sum()
                if room <= 0 or excess <= 0:
                    continue
                part = min(1.0, room / excess)
                to_place = excess * part / steps
                for _ in range(steps):
                    free_K = np.where(inside, limit_K - kept_K, 0.0)
                    if free_K.sum() > 1e-15:
                        kept_K = kept_K + to_place * free_K / free_K.sum()
                excess_K = np.where(members, excess_K * (1 - part), excess_K)
    return kept_K


@pytest.mark.parametrize("seed", range(6))
def test_against_many_small_steps(seed):
    rng = np.random.default_rng(seed)
    branching = (2, 2, 2)
    counts_K, probability_K = rng.integers(5, 50, 8), rng.dirichlet(np.full(8, 0.3))
    draws = int(2.5 * counts_K.sum())
    tree = (repetition.families(branching), None)
    for families, affinity_K in (tree, ((), rng.integers(0, 4, 8))):
        plan = (probability_K, counts_K, draws, 4.0, families, affinity_K)
        np.testing.assert_allclose(capped(*plan).probability_K, brute_force(*plan), atol=1e-9)


def test_worked_example_of_a_tree():
    """Two parents with two leaves of 10 windows each; 40 draws; cap 1.5: a leaf gets 3/8 at most.
    Of 0.9 the leaf loses 0.525: its sibling takes 0.375, the other two leaves share 0.15, the
    fuller one less: both are filled to the same fraction of their room."""
    probability_K = np.array([0.9, 0.0, 0.1, 0.0])
    found = capped(probability_K, np.full(4, 10), 40, 1.5, repetition.families((2, 2)))
    fraction = 0.15 / (0.275 + 0.375)
    wanted_K = [0.375, 0.375, 0.1 + fraction * 0.275, fraction * 0.375]
    np.testing.assert_allclose(found.probability_K, wanted_K)
    assert found.moved == pytest.approx({"siblings": 0.375, "generic": 0.15})


def test_worked_example_of_flat_clusters():
    """The nearest cluster is filled to the cap, then the next one."""
    found = capped(
        np.array([0.9, 0.0, 0.1, 0.0]), np.full(4, 10), 40, 1.5, (), np.array([9.0, 1.0, 2.0, 3.0])
    )
    np.testing.assert_allclose(found.probability_K, [0.375, 0.0, 0.25, 0.375], atol=1e-15)
    assert found.moved == pytest.approx({"neighbours": 0.525})


def test_affinity_is_high_near_the_text_that_is_aimed_at():
    """Two groups of the domain far apart: clusters beside either are near, those between not; the
    larger share counts more; a cluster's number does not matter."""
    centroids_KxD = np.array([[0.0], [1.0], [10.0], [11.0], [5.5], [30.0]])
    probability_K, counts_K = np.array([0.7, 0, 0.3, 0, 0, 0]), np.ones(6)
    found_K = repetition.affinity(centroids_KxD, probability_K, counts_K)
    assert np.argsort(-found_K).tolist() == [0, 2, 1, 3, 4, 5]
    # exp(-d^2 / h) with h = 1, the distance from each to the nearest other one.
    assert found_K[1] == pytest.approx(np.log(0.7 * np.exp(-1) + 0.3 * np.exp(-81)))
    order = np.random.default_rng(0).permutation(6)
    again_K = repetition.affinity(centroids_KxD[order], probability_K[order], counts_K)
    np.testing.assert_allclose(again_K, found_K[order])
    assert np.isfinite(repetition.affinity(np.zeros((1, 2)), np.ones(1), np.ones(1))).all()
    assert np.isfinite(repetition.affinity(np.zeros((3, 2)), np.full(3, 1 / 3), np.ones(3))).all()


@given(plans(), st.floats(0, 0.9))
def test_uniform_draws_count_towards_the_cap(plan, uniform):
    probability_K, counts_K, draws, cap, *_ = plan
    assume(cap * counts_K.sum() > draws * 1.0001)
    budget = Budget(cap, uniform)
    own = budget.capped(probability_K, counts_K, draws)
    assert own.probability_K.sum() == pytest.approx(1, abs=1e-12)
    all_K = budget.mixed(own.probability_K, counts_K)
    assert (all_K <= limit(counts_K, draws, cap) * (1 + 1e-9)).all()


def test_expected_repetitions_of_a_worked_example():
    """40 draws, half of them of 5 windows, half of 20: 4 times and once."""
    found = expected(np.array([0.5, 0.5, 0]), np.array([5, 20, 0]), 40, 3.0)
    assert (found.mean, found.most, found.above, found.budget) == (2.5, 4.0, 0.5, 3.0)
    assert expected(np.array([0.5, 0.5]), np.array([5, 20]), 40).above == 0.0


def test_the_mean_over_draws_is_draws_over_the_effective_sample_size():
    made = weights.report("x", np.array([50, 30, 20]), np.array([1, 5, 9]), 0.1, 400)
    assert made.to_json()["expected_repetitions"] == pytest.approx(400 / made.effective_sample_size)


def sampled(made, cluster_N, seed):
    """(counts of windows, counts of clusters) of all planned draws."""
    sampler = Sampler(
        len(cluster_N), 64, seed, cluster_N, made.capped.probability_K, epoch=made.epoch
    )
    window, cluster = sampler.draws(0, made.planned_windows)
    k = len(made.generic_counts_K)
    return np.bincount(window, minlength=len(cluster_N)), np.bincount(cluster, minlength=k)


@pytest.mark.parametrize("draws", [700, 1999, 2000])
@pytest.mark.parametrize("seed", range(3))
def test_with_a_cap_of_one_no_window_is_drawn_twice(draws, seed):
    rng = np.random.default_rng(seed)
    cluster_N = rng.choice(8, 2000, p=rng.dirichlet(np.ones(8)))
    special_K = rng.multinomial(100, rng.dirichlet(np.full(8, 0.3)))
    counts_K = weights.counts(cluster_N, 8)
    centroids_KxD = rng.normal(size=(8, 3))
    made = weights.report(
        "x", counts_K, special_K, 0.0, draws, budget=Budget(1.0, 0.0, centroids_KxD)
    )
    times_N, _ = sampled(made, cluster_N, seed)
    assert times_N.max() == 1 and times_N.sum() == draws
    assert made.repetitions.mean == pytest.approx(1)
    uncapped = weights.report("x", counts_K, special_K, 0.0, draws)
    assert sampled(uncapped, cluster_N, seed)[0].max() > 1


@pytest.mark.parametrize("cap", [2.0, 3.0])
def test_counts_of_the_real_sampler(cap):
    """Windows differ from the expectation by less than one, clusters likewise, and over the seeds
    the clusters follow the distribution."""
    rng = np.random.default_rng(5)
    cluster_N = rng.choice(8, 1000, p=rng.dirichlet(np.ones(8)))
    special_K = rng.multinomial(100, rng.dirichlet(np.full(8, 0.3)))
    made = weights.report(
        "x",
        weights.counts(cluster_N, 8),
        special_K,
        0.0,
        1700,
        budget=Budget(cap, 0.0, rng.normal(size=(8, 3))),
    )
    assert made.capped.moved
    wanted_K, total_K = made.capped.probability_K * 1700, np.zeros(8)
    expected_N = (wanted_K / np.maximum(made.generic_counts_K, 1))[cluster_N]
    for seed in range(10):
        times_N, drawn_K = sampled(made, cluster_N, seed)
        assert times_N.max() <= cap
        assert np.abs(times_N - expected_N).max() < 1 + 1e-6
        assert np.abs(drawn_K - wanted_K).max() < 1 + 1e-6
        total_K += drawn_K
    kept = wanted_K > 0
    assert stats.chisquare(total_K[kept], 10 * wanted_K[kept]).pvalue > 1e-3
    assert made.repetitions.distinct_windows == pytest.approx((times_N > 0).sum(), rel=0.02)


def test_the_report_says_what_the_cap_did():
    made = weights.report(
        "med",
        np.full(4, 10),
        np.array([9, 0, 1, 0]),
        0.0,
        40,
        budget=Budget(1.5, 0.0, None, (2, 2)),
    )
    facts = made.to_json()
    assert facts["moved"] == pytest.approx({"siblings": 0.375, "generic": 0.15})
    assert facts["moved_share"] == pytest.approx(0.525)
    assert facts["cap"] == facts["repetition_budget"] == 1.5 and not facts["too_little_text"]
    assert facts["uncapped_repetitions"] == pytest.approx([3.6, 0, 0.4, 0])
    assert facts["repetitions"][:2] == pytest.approx([1.5, 1.5])
    assert facts["share_above_budget"] == 0.0
    np.testing.assert_allclose(facts["sampling"], [0.9, 0, 0.1, 0])
    np.testing.assert_array_equal(facts["capped_sampling"], made.capped.probability_K)
    assert "above 1.5" in made.table()


@given(st.floats(0, 1), st.integers(0, 100))
def test_powers_lie_between_generic_and_importance_weights(power, seed):
    rng = np.random.default_rng(seed)
    generic_K, special_K = rng.integers(1, 50, 6), rng.multinomial(40, rng.dirichlet(np.ones(6)))
    plain_K = weights.importance_weights(generic_K, special_K)
    found_K = weights.importance_weights(generic_K, special_K, power=power)
    share_K = generic_K / generic_K.sum()
    assert found_K @ share_K == pytest.approx(1)
    wanted_K = plain_K**power
    np.testing.assert_allclose(found_K, wanted_K / (wanted_K @ share_K))
    sizes = [weights.effective_sample_size(w_K, generic_K) for w_K in (plain_K, found_K)]
    assert sizes[0] * (1 - 1e-9) <= sizes[1] <= generic_K.sum() * (1 + 1e-9)


def test_powers_at_the_ends():
    generic_K, special_K = np.array([4, 4, 2, 0]), np.array([1, 0, 2, 1])
    one_K = weights.importance_weights(generic_K, special_K, power=1.0)
    np.testing.assert_array_equal(one_K, weights.importance_weights(generic_K, special_K))
    none_K = weights.importance_weights(generic_K, special_K, power=0.0)
    np.testing.assert_allclose(none_K, [1, 1, 1, 0])
    with pytest.raises(UserError, match="clustering.power=2"):
        weights.importance_weights(generic_K, special_K, power=2)


def test_a_cluster_without_windows_is_named():
    with pytest.raises(UserError, match="has no window"):
        capped(np.array([0.5, 0.5]), np.array([3, 0]), 10, 1.0)


def test_uniform_draws_come_first():
    cluster_N = np.repeat([0, 1], [90, 10])
    late = Late(Sampler(100, 10, 0), Sampler(100, 10, 0, cluster_N, np.array([0.0, 1.0])), 5)
    first = np.concatenate([late.indices(step) for step in range(5)])
    assert len(np.unique(first)) == 50
    assert set(cluster_N[late.indices(5)]) == {1}
