"""Values that a small mistake in draws, methods and budgets would change."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize
from test_draws import BATCH, K, N, corpus, settings, source_of

from specialm import budgets, draws, methods
from specialm.clustering.control import matched
from specialm.data.mixed import Late


def test_the_shuffled_control_is_another_for_each_seed():
    """Its probabilities, its draws and what identifies them."""
    config, clusters = settings(), corpus()
    source, control = source_of(config, clusters), methods.get("slm_is_shuffled").draws
    found = [control.capped(source, seed).probability_K for seed in range(4)]
    assert len({tuple(each) for each in found}) == 4
    assert len({tuple(control.key(config, source, seed)) for seed in range(4)}) == 4
    for seed, probability_K in enumerate(found):
        np.testing.assert_allclose(probability_K, matched(source.weights, seed), rtol=1e-12)
        sampler = control.sampler(config, source, seed)
        np.testing.assert_allclose(sampler.probability_K, probability_K)


def test_importance_starts_at_its_part_of_the_steps():
    config, clusters = settings(train__importance_start=0.25), corpus()
    source = source_of(config, clusters)
    sampler = methods.get("slm_is").draws.sampler(config, source, 0)
    assert isinstance(sampler, Late) and sampler.first == 0.25 * 1600 / BATCH
    assert len(set(sampler.indices(0))) == BATCH and (sampler.before.probability_K == 1).all()
    np.testing.assert_allclose(sampler.after.probability_K, source.weights.sampling_K)


def test_a_histogram_has_the_support_that_is_set():
    config, clusters = settings(train__histogram_support=3), corpus()
    source = dataclasses.replace(source_of(config, clusters, "soup"), planned=1600)
    sampler = methods.get("soup").draws.sampler(config, source, 0)
    assert ((sampler.features(0) > 0).sum(1) == 3).all()
    np.testing.assert_allclose(sampler.features(0).sum(1), 1, rtol=1e-6)


def test_the_share_of_a_support_by_its_equation():
    """Rosén's: 1 - exp(-t share) of each, with t such that they sum to the support."""
    share_K = np.array([0.4, 0.3, 0.2, 0.1])
    t = optimize.brentq(lambda t: (1 - np.exp(-t * share_K)).sum() - 2, 0, 100)
    want_K = (1 - np.exp(-t * share_K)) / 2
    np.testing.assert_allclose(draws._share_of_support(share_K, 2), want_K, rtol=1e-9)


def test_every_expert_has_an_order_of_its_own():
    config, clusters = settings(), corpus()
    source = dataclasses.replace(source_of(config, clusters, "slm_mix"), weights=None)
    sampler = methods.get("slm_mix").draws.sampler(config, source, 0)
    for expert, own in enumerate(sampler.experts):
        assert own.seed == expert  # of seed 0; other seeds are far apart
        assert set(clusters.generic_N[own.indices(0)]) == {expert}
    other = methods.get("slm_mix").draws.sampler(config, source, 1)
    assert not {own.seed for own in sampler.experts} & {own.seed for own in other.experts}


def test_a_trunk_and_its_experts_spend_the_budget():
    train = settings(
        train__trunk_fraction=0.25, train__expert_multiplier=0.5, train__decay_fraction=0.6
    ).train
    train.tokens, train.learning_rate = 1000, 0.2
    trunk, experts = budgets.trunk(train)
    assert (trunk.tokens, experts.tokens) == (250, 750)
    assert (trunk.schedule, experts.schedule) == ("constant", train.schedule)
    assert (trunk.learning_rate, experts.learning_rate) == (0.2, 0.1)
    assert experts.decay_fraction == pytest.approx(0.8)  # the last 600 of all 1000
    one = budgets.one_expert_settings(experts, 4)
    assert (one.tokens, one.batch_size) == (188, train.batch_size // 4)


def test_features_of_centroids_are_centred_on_the_corpus():
    clusters = corpus()
    found = methods.experts(clusters, "slm_hn")
    share_K = np.bincount(clusters.generic_N, minlength=K) / N
    centred = clusters.centroids_KxD - share_K @ clusters.centroids_KxD
    want = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(found.features_kxC, want, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.probability_k, share_K)
