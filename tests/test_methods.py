import copy
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm import budgets, methods
from specialm import config as config_lib
from specialm.clustering import weights
from specialm.clustering.clusters import Clusters
from specialm.common.errors import UserError
from specialm.data.groups import ExpertSampler, GroupSampler, HistogramSampler, MixtureSampler
from specialm.data.likeness import Likeness
from specialm.models import families, transformer
from specialm.training import loop

DENSE = transformer.Config(
    vocab_size=500, context=128, num_layers=4, d_model=64, num_heads=4, d_ff=256
)


def changed(**settings):
    """The defaults with settings such as train__groups=3."""
    config = config_lib.default()
    for name, value in settings.items():
        part, field = name.split("__")
        config[part][field] = value
    return config


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (
            "slm_mix",
            {"train__batch_size": 40},
            r"train.batch_size=40 is not a multiple of model.num_experts=16",
        ),
        (
            "slm_mix",
            {"train__batch_size": 40, "model__only_expert": 3},
            r"train.batch_size=40 is not a multiple of model.num_experts=16",
        ),
        ("slm_pn", {"train__groups": 7}, r"train.groups=7 does not divide train.batch_size=64"),
        ("slm_hn", {"train__groups": 128}, r"train.groups=128 does not divide train.batch_size=64"),
        ("soup", {"train__groups": 7}, r"train.groups=7 does not divide train.batch_size=64"),
        (
            "soup",
            {"train__histogram_support": 17},
            r"train.histogram_support=17: .* model.num_experts=16",
        ),
        (
            "slm_mix",
            {"model__only_expert": 16},
            r"model.only_expert=16: must be one of 0 to 15 "
            r"\(model.num_experts=16\), or -1",
        ),
        ("slm_mix", {"model__only_expert": -2}, r"model.only_expert=-2: must be one of 0 to 15"),
        ("slm_pn", {"model__only_expert": 3}, r"model.only_expert=3: the experts of slm_pn share"),
        ("soup", {"model__only_expert": 3}, r"model.only_expert=3: the experts of soup share"),
        (
            "slm_hn",
            {"model__bank_layers": (1, 4)},
            r"model.bank_layers=\(1, 4\): layer 4 does not exist, there are model.num_layers=4",
        ),
        ("slm_pn", {"model__bank_layers": (-1,)}, r"model.bank_layers=\(-1,\): layer -1"),
        ("slm_pn", {"model__bank_layers": (1, 1)}, r"model.bank_layers=\(1, 1\)"),
        ("slm_pn", {"model__bank_size": -1}, r"model.bank_size=-1"),
        ("slm_pn", {"model__code_size": -1}, r"model.code_size=-1"),
        ("soup", {"model__mixer_hidden": 0}, r"model.mixer_hidden=0"),
        (
            "slm_hn",
            {"train__tokens": 5 * 64 * 128, "train__bank_every": 6},
            r"train.bank_every=6: train.tokens=40960 are 5 steps, in which the bank would never",
        ),
    ],
)
def test_check_names_the_setting_and_its_value(method, settings, message):
    with pytest.raises(UserError, match=message):
        methods.check(changed(**settings), method)


@pytest.mark.parametrize("method", methods.choices())
def test_the_defaults_pass(method):
    methods.check(config_lib.default(), method)


def test_settings_of_other_methods_do_not_matter():
    """What a method has no use for cannot be wrong for it."""
    bank_only = changed(
        train__groups=7,
        train__histogram_support=99,
        train__bank_every=10**9,
        model__only_expert=99,
        model__bank_layers=(9,),
        train__batch_size=40,
    )
    for method in ("slm", "llm", "slm_is", "slm_is_shuffled"):
        methods.check(bank_only, method)
    methods.check(changed(train__groups=7, train__histogram_support=99), "slm_mix")
    methods.check(changed(train__histogram_support=99), "slm_pn")


def test_sizes_alone_are_checked_without_the_batch():
    methods.check_sizes(changed(train__batch_size=40, train__groups=7), "slm_pn")
    methods.check_sizes(changed(train__batch_size=40), "slm_mix")
    with pytest.raises(UserError, match="model.only_expert=16"):
        methods.check_sizes(changed(model__only_expert=16), "slm_mix")


def test_model_config_of_every_method():
    config = config_lib.default()
    for method in ("slm", "llm", "slm_is", "slm_is_shuffled"):
        assert methods.model_config(config, method, 500, 0) == DENSE
    every = (0, 1, 2, 3)
    for method in ("slm_pn", "slm_hn", "soup"):
        family = methods.get(method).family
        assert methods.model_config(config, method, 500, 48) == families.bank.Config(
            DENSE, family, 16, 16, 16, every, features=48, hidden=64, spread=config.model.spread
        )
    assert methods.model_config(config, "slm_mix", 500, 48) == families.mixture.Config(DENSE, 16)
    assert methods.model_config(changed(model__only_expert=0), "slm_mix", 500, 48) == DENSE


def test_num_experts_changes_the_bank_and_the_codes_unless_they_are_set():
    def sizes(*overrides):
        config = config_lib.load("configs/paper/slm_pn.py", list(overrides))
        made = methods.model_config(config, "slm_pn", 32_000, 384)
        return made.num_experts, made.rank, made.code

    assert sizes() == (32, 32, 32)
    assert sizes("--config.model.num_experts=64") == (64, 64, 64)
    assert sizes("--config.model.num_experts=64", "--config.model.bank_size=8") == (64, 8, 64)
    assert sizes("--config.model.code_size=5") == (32, 32, 5)
    config = config_lib.load("configs/paper/slm_pn.py")
    assert methods.model_config(config, "slm_pn", 32_000, 0).layers == (2, 3, 4, 5, 6)


def test_clusters_that_a_method_needs():
    config = changed(clustering__k=7)
    needed = {method: methods.num_clusters(config, method) for method in methods.choices()}
    assert needed == {
        "slm": 0,
        "llm": 0,
        "slm_nopt": 0,
        "slm_is": 7,
        "slm_is_shuffled": 7,
        "dsir": 0,
        "source_filter": 0,
        "slm_pn": 16,
        "slm_hn": 16,
        "soup": 16,
        "slm_mix": 16,
    }


def made_clusters(seed=0, windows=80, k=4, empty=()):
    rng = np.random.default_rng(seed)
    cluster_N = rng.choice([c for c in range(k) if c not in empty], windows)
    return Clusters(
        rng.normal(size=(k, 5)).astype(np.float32),
        rng.normal(size=(windows, 5)),
        cluster_N,
        {},
        "fingerprint",
    )


def test_what_a_bank_is_told_of_its_clusters():
    clusters = made_clusters()
    share_K = [np.mean(clusters.generic_N == c) for c in range(4)]
    for method in ("slm_pn", "soup", "slm_mix"):
        known = methods.experts(clusters, method)
        np.testing.assert_allclose(known.probability_k, share_K)
        np.testing.assert_array_equal(known.features_kxC, np.eye(4))
    known = methods.experts(clusters, "slm_hn")
    mean = sum(clusters.centroids_KxD[c].astype(np.float64) for c in clusters.generic_N) / 80
    for c in range(4):
        away = clusters.centroids_KxD[c] - mean
        np.testing.assert_allclose(
            known.features_kxC[c], away / np.sqrt((away**2).sum()), rtol=1e-5
        )
    assert known.features_kxC.dtype == np.float32


def test_a_centroid_in_the_middle_of_the_corpus_has_features():
    """Nothing to divide by: zeros, not NaN."""
    same = Clusters(np.ones((2, 3), np.float32), np.ones((4, 3)), np.array([0, 1, 0, 1]), {}, "f")
    np.testing.assert_array_equal(methods.experts(same, "slm_hn").features_kxC, np.zeros((2, 3)))


def settings_for(**more):
    return changed(
        model__num_experts=4,
        train__batch_size=8,
        train__groups=2,
        train__histogram_support=2,
        **more,
    )


def sampler_of(config, method, clusters, seed):
    source = methods.source(method, len(clusters.generic_N), clusters)
    return methods.sampler(config, method, source, seed)


def test_samplers_of_the_methods():
    clusters, config = made_clusters(), settings_for()
    share_K = np.bincount(clusters.generic_N) / 80
    grouped = sampler_of(config, "slm_hn", clusters, 3)
    known = methods.experts(clusters, "slm_hn")
    wanted = GroupSampler(80, 8, 3, clusters.generic_N, share_K, 2, known.features_kxC)
    np.testing.assert_array_equal(grouped.indices(5), wanted.indices(5))
    np.testing.assert_array_equal(grouped.features(5), wanted.features(5))
    one_hot = sampler_of(config, "slm_pn", clusters, 3)
    np.testing.assert_array_equal(one_hot.indices(5), wanted.indices(5))
    cluster_G = clusters.generic_N[one_hot.indices(5)][::4]
    np.testing.assert_array_equal(one_hot.features(5), np.eye(4)[cluster_G])
    soup = sampler_of(config, "soup", clusters, 3)
    drawn = HistogramSampler(8, 3, clusters.generic_N, share_K, 2, 2)
    np.testing.assert_array_equal(soup.indices(5), drawn.indices(5))
    np.testing.assert_array_equal(soup.features(5), drawn.features(5))
    joint = sampler_of(config, "slm_mix", clusters, 3)
    assert isinstance(joint, MixtureSampler)
    alone = sampler_of(settings_for(model__only_expert=2), "slm_mix", clusters, 3)
    assert isinstance(alone, ExpertSampler)
    np.testing.assert_array_equal(joint.indices(5)[4:6], alone.indices(5))


def test_a_cluster_without_windows():
    """A mixture cannot train its expert; a bank can do without."""
    clusters = made_clusters(empty=(1,))
    with pytest.raises(UserError, match=r"cluster 1 has no windows.*model.num_experts"):
        sampler_of(settings_for(), "slm_mix", clusters, 0)
    with pytest.raises(UserError, match="cluster 1 has no windows"):
        sampler_of(settings_for(model__only_expert=1), "slm_mix", clusters, 0)
    sampler_of(settings_for(model__only_expert=2), "slm_mix", clusters, 0)
    known = methods.experts(clusters, "slm_pn")
    assert known.probability_k[1] == 0 and known.probability_k.sum() == pytest.approx(1)
    for method in ("slm_pn", "slm_hn", "soup"):
        sampler = sampler_of(settings_for(), method, clusters, 0)
        drawn = np.concatenate([sampler.indices(step) for step in range(40)])
        assert set(clusters.generic_N[drawn]) == {0, 2, 3}
    soup = sampler_of(settings_for(), "soup", clusters, 0)
    assert not any(soup.features(step)[0, 1] for step in range(40))


@given(
    st.integers(0, 100),
    st.integers(-20, 20),
    st.sampled_from([1, 2, 4, 16]),
    st.sampled_from([16, 32, 64]),
)
def test_an_expert_alone_has_its_share_of_the_batch_and_as_many_steps(whole, more, k, batch_size):
    """Also when the budget is a little above or below a whole number of steps."""
    tokens = max(1, whole * batch_size * 16 + more)
    train = changed(train__tokens=tokens, train__batch_size=batch_size).train.lock()
    before = copy.deepcopy(train.to_dict())
    alone = budgets.one_expert_settings(train, k)
    assert alone.batch_size == batch_size // k
    assert loop.num_steps(alone, 16) == loop.num_steps(train, 16)
    assert train.to_dict() == before


@given(st.integers(100, 10**6), st.floats(0, 0.9))
def test_a_trunk_takes_its_fraction_of_the_budget(tokens, fraction):
    train = changed(
        train__tokens=tokens,
        train__trunk_fraction=fraction,
        train__decay_fraction=0.25,
        train__expert_multiplier=0.5,
        train__schedule="cosine",
    ).train.lock()
    first, rest = budgets.trunk(train)
    assert rest.tokens + (first.tokens if first else 0) == tokens
    # The decay is as long as it would be in one training, as far as the experts' part reaches.
    assert rest.decay_fraction * rest.tokens == pytest.approx(min(0.25 * tokens, rest.tokens))
    assert rest.learning_rate == 0.5 * train.learning_rate and rest.schedule == "cosine"
    changes = {"tokens", "decay_fraction", "learning_rate"}
    assert all(rest[name] == train[name] for name in train if name not in changes)
    if first is None:
        assert fraction * tokens <= 0.5
        return
    assert abs(first.tokens - fraction * tokens) <= 0.5 and first.schedule == "constant"
    assert all(first[name] == train[name] for name in train if name not in ("tokens", "schedule"))


def test_tokens_that_share_a_projection():
    config = changed(train__batch_size=64, train__groups=8)
    shared = {
        method: methods.tokens_per_group(config, method)
        for method in ("slm", "slm_is", "slm_mix", "slm_pn", "slm_hn", "soup")
    }
    assert shared == {
        "slm": 0,
        "slm_is": 0,
        "slm_mix": 0,
        "slm_pn": 8 * 128,
        "slm_hn": 8 * 128,
        "soup": 8 * 128,
    }


def test_every_expert_is_as_large_as_the_dense_model():
    config = config_lib.default()
    for method in methods.choices():
        assert families.dense(methods.model_config(config, method, 500, 48)) == DENSE


@pytest.mark.parametrize("method", methods.choices())
def test_every_sampler_says_how_many_groups_share_features(method):
    clusters, config = made_clusters(), settings_for()
    report = weights.report("d", np.full(4, 20), np.array([4, 3, 2, 1]), 0.0, 100)
    like = Likeness(np.arange(80.0), np.ones(80, int), np.arange(80) % 2, ("a", "b"))
    source = methods.source(method, 80, clusters)
    source = dataclasses.replace(source, weights=report, likeness=like)
    sampler = methods.sampler(config, method, source, 0)
    features = sampler.features(2)
    assert sampler.batch_size == len(sampler.indices(2)) == 8
    assert sampler.num_groups == (1 if features is None else len(features))
    assert (features is not None) == methods.get(method).is_bank
