"""Draws from chosen windows: how many, how often, of which."""

import dataclasses

import numpy as np
import pytest
from test_draws import BATCH, settings

from specialm import draws, methods
from specialm.clustering.repetition import Budget, expected
from specialm.common.errors import UserError
from specialm.data import likeness
from specialm.data.likeness import Likeness

N = 800
METHODS = ("dsir", "source_filter")


def source(cap=0.0, planned=1600):
    rng = np.random.default_rng(0)
    source_N = np.sort(rng.integers(0, 6, N))
    of = Likeness(rng.normal(0, 2, N) + source_N, np.full(N, 7), source_N, tuple("abcdef"))
    return draws.Source(N, likeness=of, planned=planned, budget=Budget(cap))


def drawn(method, config, of, seed=0, steps=1600 // BATCH):
    sampler = methods.sampler(config, method, of, seed)
    return np.bincount(np.concatenate([sampler.indices(s) for s in range(steps)]), minlength=N)


@pytest.mark.parametrize(("cap", "asked", "windows"), [(0, 4.0, 400), (2, 4.0, 800), (8, 4, 400)])
def test_dsir_draws_every_chosen_window_as_often(cap, asked, windows):
    config, of = settings(train__selected_repetitions=float(asked)), source(cap)
    times_N = drawn("dsir", config, of)
    chosen = np.flatnonzero(times_N)
    assert len(chosen) == windows and set(times_N[chosen]) == {1600 // windows}
    want = likeness.gumbel_top_k(of.likeness.log_weight_N, windows, 0)
    np.testing.assert_array_equal(chosen, want)


def test_published_is_each_once_and_more_draws_than_windows_repeat_all():
    config = settings(train__selected_repetitions=1.0)
    assert set(drawn("dsir", config, source(planned=80), steps=10)) == {0, 1}
    assert set(drawn("dsir", config, source(planned=1600))) == {2}


def test_the_filter_draws_whole_sources_the_nearest_first():
    config, of = settings(), source()
    times_N, source_N = drawn("source_filter", config, of), of.likeness.source_N
    chosen = likeness.nearest_sources(of.likeness, 400)
    assert 1 < len(chosen) < 6
    np.testing.assert_array_equal(times_N > 0, np.isin(source_N, chosen))
    assert np.ptp(times_N[times_N > 0]) <= 1
    assert len(drawn("source_filter", config, of, 1)) == N


@pytest.mark.parametrize("method", METHODS)
def test_what_the_draws_say_is_what_they_do(method):
    config, of = settings(), source(cap=8.0)
    draws_of = methods.get(method).draws
    found = expected(*draws_of.drawn(config, of, 3), 1600)
    times_N = drawn(method, config, of, 3)
    assert found.mean == pytest.approx((times_N**2).sum() / times_N.sum(), rel=0.05)
    assert found.most == pytest.approx(times_N.max(), rel=0.3)


def test_keys():
    """What is chosen and how many draws; DSIR's with the seed, the filter's not."""
    config, of = settings(), source()
    dsir, filtered = (methods.get(method).draws for method in METHODS)
    assert len({tuple(dsir.key(config, of, seed)) for seed in range(3)}) == 3
    assert len({tuple(filtered.key(config, of, seed)) for seed in range(3)}) == 1
    fewer = dataclasses.replace(of, planned=800)
    for each in (dsir, filtered):
        assert each.key(config, fewer, 0) != each.key(config, of, 0)
        assert each.aims and each.clusters(config) == (0, "")
        assert each.settings == ("train.selected_repetitions",)


def test_one_source_has_none_to_choose():
    of = source()
    one = dataclasses.replace(of.likeness, source_N=np.zeros(N, int), sources=("all.jsonl",))
    with pytest.raises(UserError, match="data.generic has one: all.jsonl"):
        drawn("source_filter", settings(), dataclasses.replace(of, likeness=one))
    assert drawn("dsir", settings(), dataclasses.replace(of, likeness=one)).sum() == 1600
