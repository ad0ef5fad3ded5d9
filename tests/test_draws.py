"""What the draws of the methods do under a budget of repetitions."""

import dataclasses
import types

import numpy as np
import pytest
from scipy import stats

from specialm import config as config_lib
from specialm import draws, methods
from specialm.clustering import weights
from specialm.clustering.clusters import Clusters
from specialm.clustering.repetition import Budget, expected
from specialm.common.stages import digest
from specialm.data.mixed import Late
from specialm.data.sampler import Sampler
from specialm.workflows import pipeline, repeats, stage_keys

N, K, BATCH = 800, 8, 8


def corpus(seed=0):
    """Clusters of unequal sizes."""
    rng = np.random.default_rng(seed)
    cluster_N = rng.choice(K, N, p=rng.dirichlet(np.full(K, 3.0)))
    return Clusters(
        rng.normal(size=(K, 5)).astype(np.float32), np.zeros((N, 5)), cluster_N, {}, "c"
    )


def settings(tokens_windows=1600, **changed):
    config = config_lib.default()
    config.clustering.max_repetitions = 0.0
    config.data.context, config.train.batch_size = 16, BATCH
    config.train.tokens, config.train.groups = tokens_windows * 16, 2
    config.model.num_experts, config.train.histogram_support = K, 2
    for name, value in changed.items():
        part, field = name.split("__")
        config[part][field] = value
    return config


def source_of(config, clusters, method="slm_is"):
    special_K = np.array([40, 9, 0, 0, 3, 0, 1, 0])
    budget = Budget(
        config.clustering.max_repetitions, pipeline._uniform(config.train), clusters.centroids_KxD
    )
    report = weights.report(
        "d",
        weights.counts(clusters.generic_N, K),
        special_K,
        config.clustering.smoothing,
        pipeline.planned_windows(config),
        config.clustering.power,
        budget,
    )
    return dataclasses.replace(methods.source(method, N, clusters), weights=report)


def first_cluster(report, seed):
    """An outside rule: one cluster alone."""
    return np.eye(K)[0]


@pytest.mark.parametrize("rule", [draws.importance, draws.shuffled, first_cluster])
def test_every_rule_is_capped(rule):
    config, clusters = settings(clustering__max_repetitions=3.0), corpus()
    source, weighted = source_of(config, clusters), draws.Weighted(rule)
    sampler = weighted.sampler(config, source, 4)
    steps = pipeline.planned_windows(config) // BATCH
    times_N = np.bincount(
        np.concatenate([sampler.indices(step) for step in range(steps)]), minlength=N
    )
    assert times_N.max() == 3
    shares_K, counts_K = weighted.drawn(config, source, 4)
    found = expected(shares_K, counts_K, BATCH * steps)
    assert found.most == pytest.approx(3)
    assert weighted.key(config, source, 4) == [
        "c",
        digest(weighted.capped(source, 4).probability_K),
        f"epoch {BATCH * steps}",
    ]


@pytest.mark.parametrize("rule", [draws.importance, draws.shuffled, first_cluster])
def test_without_a_cap_draws_and_keys_are_as_they_were(rule):
    config, clusters = settings(), corpus()
    source, weighted = source_of(config, clusters), draws.Weighted(rule)
    probability_K = rule(source.weights, 4)
    wanted = Sampler(N, BATCH, 4, clusters.generic_N, probability_K)
    sampler = weighted.sampler(config, source, 4)
    for step in (0, 7, 190):
        np.testing.assert_array_equal(sampler.indices(step), wanted.indices(step))
    assert weighted.key(config, source, 4) == ["c", digest(probability_K)]


def test_another_cap_or_start_is_another_key():
    clusters, weighted = corpus(), draws.Weighted()
    changes = [{"clustering__max_repetitions": cap} for cap in (0.0, 2.0, 4.0, 1000.0)]
    changes += [{"train__importance_start": 0.5}, {"clustering__power": 0.5}]
    changes += [{"train__replay_fraction": 0.5}]
    keys = {
        tuple(weighted.key(settings(**c), source_of(settings(**c), clusters), 0)) for c in changes
    }
    assert len(keys) == len(changes)
    for method in ("slm", "slm_is"):  # it is in the key of the draws that use it
        train = settings(train__importance_start=0.5).train
        assert "importance_start" not in stage_keys.settings_in_result(
            train, methods.get(method).settings
        )


def test_importance_sampling_from_a_step_on():
    config, clusters = settings(train__importance_start=0.5), corpus()
    source = source_of(config, clusters)
    sampler = draws.Weighted().sampler(config, source, 1)
    assert isinstance(sampler, Late) and sampler.first == 100
    np.testing.assert_array_equal(sampler.indices(99), Sampler(N, BATCH, 1).indices(99))
    drawn_K = np.bincount(
        clusters.generic_N[np.concatenate([sampler.indices(step) for step in range(200)])],
        minlength=K,
    )
    shares_K, _ = draws.Weighted().drawn(config, source, 1)
    assert np.abs(drawn_K / 1600 - shares_K).max() < 0.01


def drawn_by(method, config, clusters, steps):
    """(times of each window, what the draws say of it: share of each cluster, its windows)."""
    source = source_of(config, clusters, method)
    sampler = methods.sampler(config, method, source, 0)
    windows = np.concatenate([sampler.indices(step) for step in range(steps)])
    return np.bincount(windows, minlength=N), methods.get(method).draws.drawn(config, source, 0)


@pytest.mark.parametrize("method", ["slm", "slm_is", "slm_pn", "slm_hn", "soup", "slm_mix"])
def test_what_draws_say_of_their_clusters_is_what_is_drawn(method):
    clusters, steps = corpus(), 1000
    times_N, (shares_K, counts_K) = drawn_by(method, settings(), clusters, steps)
    experts = K if method == "slm_mix" else 1  # each with draws and parameters of its own
    assert counts_K.sum() == N * experts and shares_K.sum() == pytest.approx(1)
    shares_K = shares_K.reshape(experts, -1).sum(0)
    if len(shares_K) == K:
        drawn_K = np.bincount(clusters.generic_N, times_N, minlength=K) / (steps * BATCH)
        assert np.abs(drawn_K - shares_K).max() < 0.02


def test_a_bank_repeats_all_windows_alike_and_a_mixture_those_of_small_clusters():
    clusters = corpus()
    times_N, (shares_K, counts_K) = drawn_by("slm_pn", settings(), clusters, 1000)
    found = expected(shares_K, counts_K, 8000)
    assert found.mean == pytest.approx(10) and found.most == pytest.approx(10)
    assert times_N.mean() == 10 and times_N.max() < 20
    _, (shares_K, counts_K) = drawn_by("slm_mix", settings(), clusters, 1)
    assert expected(shares_K, counts_K, 8000).most == pytest.approx(1000 / counts_K.min())


def budgeted(method, config, clusters, trunk=0.0):
    """The source of a method that aims at no domain, with its budget of repetitions."""
    cap = config.clustering.max_repetitions
    return dataclasses.replace(
        methods.source(method, N, clusters),
        planned=pipeline.planned_windows(config),
        budget=pipeline.repetition_budget(clusters, cap, trunk),
    )


@pytest.mark.parametrize("cap", [2.0, 3.5])
def test_no_expert_of_a_mixture_repeats_a_window_more_often_than_the_cap(cap):
    """Where its cluster is too small it reads the clusters nearest by."""
    config, clusters = settings(clustering__max_repetitions=cap), corpus()
    source = budgeted("slm_mix", config, clusters)
    sampler, counts_K = methods.sampler(config, "slm_mix", source, 0), clusters.share_K * N
    own, most = 1600 // K, np.zeros(K)
    for expert, alone in enumerate(sampler.experts):
        windows = np.concatenate([alone.indices(step) for step in range(own)])
        times_N = np.bincount(windows, minlength=N)
        most[expert] = times_N.max()
        drawn_K = np.bincount(clusters.generic_N[windows], minlength=K)
        assert abs(drawn_K[expert] - min(own, cap * counts_K[expert])) <= 1
    assert most.max() <= np.ceil(cap)
    rates = expected(*methods.get("slm_mix").draws.drawn(config, source, 0), 1600)
    assert rates.most <= cap * (1 + 1e-12)


def test_the_trunk_of_a_mixture_counts_towards_the_cap():
    """Expected draws of a window are those of the trunk, W f / N, and the expert's own."""
    config, clusters = settings(clustering__max_repetitions=2.0), corpus()
    source = budgeted("slm_mix", config, clusters, trunk=0.5)
    by_expert = draws.ByExpert()
    counts_K, own = np.rint(clusters.share_K * N), 1600 * 0.5 / K
    for capped in by_expert.capped(config, source):
        seen_K = 1600 * 0.5 / N + own * capped.probability_K / counts_K
        assert seen_K.max() <= 2 + 1e-12 and capped.probability_K.sum() == pytest.approx(1)
        if capped.moved:  # what could be drawn of its own cluster is
            assert seen_K.max() == pytest.approx(2)
    assert any(capped.moved for capped in by_expert.capped(config, source))
    assert by_expert.capped(settings(), budgeted("slm_mix", settings(), clusters))[0].moved == {}


def test_the_histograms_of_a_soup_are_capped_exactly():
    """Chi-square of the share of draws that each cluster has, against the closed form."""
    config, clusters = settings(clustering__max_repetitions=2.1), corpus()
    source = budgeted("soup", config, clusters)
    capped = draws.ByHistogram().capped(config, source)
    assert capped.moved and not capped.short and capped.probability_K.max() <= 0.5
    sampler, steps = methods.sampler(config, "soup", source, 0), 4000
    histograms_GxK = np.concatenate([sampler.features(step) for step in range(steps)])
    assert ((histograms_GxK > 0).sum(1) == 2).all()
    chosen_K = (histograms_GxK > 0).sum(0) / 2  # of draws of systematic sampling, mean G p_c
    wanted_K = len(histograms_GxK) * capped.probability_K
    # Systematic sampling varies less than independent draws, of which this is the chi-square.
    assert stats.chisquare(chosen_K, wanted_K).pvalue > 1e-3
    rate_K = 1600 * capped.probability_K / (clusters.share_K * N)
    assert rate_K.max() <= 2.1 * (1 + 1e-12)
    again = methods.sampler(config, "soup", source, 0)
    np.testing.assert_array_equal(again.indices(7), sampler.indices(7))


@pytest.mark.parametrize("method", ["soup", "slm_mix"])
def test_a_cap_that_cuts_nothing_changes_no_draw_and_no_key(method):
    clusters, rule = corpus(), methods.get(method).draws
    config, loose = settings(), settings(clustering__max_repetitions=1000.0)
    plain, capped = budgeted(method, config, clusters), budgeted(method, loose, clusters)
    assert rule.key(config, plain, 0) == rule.key(loose, capped, 0)
    ours, theirs = (rule.sampler(c, source, 0) for c, source in ((config, plain), (loose, capped)))
    np.testing.assert_array_equal(ours.indices(5), theirs.indices(5))
    tight = settings(clustering__max_repetitions=2.1)
    assert rule.key(tight, budgeted(method, tight, clusters), 0) != rule.key(config, plain, 0)


def test_draws_of_an_unknown_budget_are_not_capped():
    config, clusters = settings(clustering__max_repetitions=1.0), corpus()
    source = dataclasses.replace(budgeted("slm_mix", config, clusters), planned=0)
    assert not any(capped.moved for capped in draws.ByExpert().capped(config, source))


def fake_run(config, clusters):
    """What `repeats` reads of a run."""
    clusters.domains["med"] = np.repeat(np.arange(K), [40, 9, 0, 0, 3, 0, 1, 0])
    return types.SimpleNamespace(
        config=config,
        generic=range(N),
        clusters=lambda method="slm_is": clusters,
        cap=lambda domain="": config.clustering.max_repetitions,
    )


def test_what_is_said_before_training():
    def said(method="slm_is", windows=1600, **changed):
        run = fake_run(settings(windows, **changed), corpus())
        found = repeats.of(run, method, "med", 0)
        assert repeats.row(run, method, "med", 0) == {
            "effective_fraction": found.now.draws / found.now.mean / N,
            "expected_repetitions": found.now.mean,
            "max_repetitions": found.now.most,
        }
        return repeats.lines(found, "t")

    (plain,) = said("slm")
    assert "1,600 windows" in plain and "2 times in all on average, 2 times in the most" in plain
    _, warning = said()
    assert "clustering.max_repetitions=4" in warning and "times as much generic text" in warning
    _, moved = said(clustering__max_repetitions=4.0)
    assert "to neighbours" in moved and "fewer clusters" in moved and "without it" in moved
    short = said(windows=8000, clustering__max_repetitions=4.0)
    assert short[-1].startswith("warning: the generic text is too small")
    assert "10 times" in short[-1]
    assert repeats.lines(None, "t") == []


def test_what_helps_does_help():
    """The tokens that are named bring the mean to four."""
    run = fake_run(settings(), corpus())
    warning = repeats.lines(repeats.of(run, "slm_is", "med", 0), "t")[1]
    tokens = int(warning.partition("train.tokens=")[2].partition(",")[0])
    run.config.train.tokens = tokens
    assert repeats.of(run, "slm_is", "med", 0).now.mean == pytest.approx(4, rel=0.02)


def test_specialist_text_in_pretraining_takes_draws_from_the_generic_text():
    config = settings(train__specialist_fraction=0.5, train__specialist_start=0.5)
    run = fake_run(config, corpus())
    assert repeats.of(run, "slm", "med", 0).now.draws == 1200


@pytest.mark.parametrize("start", [0.0, 0.25])
def test_replay_is_an_exact_mixture_with_the_generic_text(start):
    """Of what is drawn by importance a third are windows drawn uniformly; so many are planned."""
    fraction, steps = 1 / 3, 200
    config = settings(train__replay_fraction=fraction, train__importance_start=start)
    clusters = corpus()
    source, weighted = source_of(config, clusters), draws.Weighted()
    counts_K = source.weights.generic_counts_K
    sampling_K, share_K = source.weights.sampling_K, counts_K / N
    late = weighted.sampler(config, source, 0)
    sampler = late.after if start else late
    wanted_K = fraction * share_K + (1 - fraction) * sampling_K
    np.testing.assert_allclose(sampler.probability_K, wanted_K, rtol=1e-12)
    drawn_K = np.bincount(clusters.generic_N[sampler.draws(0, N)[0]], minlength=K)
    assert (np.abs(drawn_K - wanted_K * N) < 1).all()
    planned_K, _ = weighted.drawn(config, source, 0)
    np.testing.assert_allclose(planned_K, start * share_K + (1 - start) * wanted_K, rtol=1e-12)
    times_K = np.bincount(
        clusters.generic_N[np.concatenate([late.indices(step) for step in range(steps)])],
        minlength=K,
    )
    assert np.abs(times_K / (steps * BATCH) - planned_K).max() < 0.01


def test_replay_alone_is_the_generic_text():
    config, clusters = settings(train__replay_fraction=1.0), corpus()
    source = source_of(config, clusters)
    sampler = draws.Weighted().sampler(config, source, 0)
    np.testing.assert_allclose(sampler.probability_K, source.weights.generic_counts_K / N)


def test_a_cap_counts_the_replayed_windows():
    config, clusters = settings(train__replay_fraction=0.5), corpus()
    config.clustering.max_repetitions = 3.0
    weighted, source = draws.Weighted(), source_of(config, clusters)
    found = expected(*weighted.drawn(config, source, 0), pipeline.planned_windows(config))
    assert found.most == pytest.approx(3)
