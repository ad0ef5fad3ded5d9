"""Which generic windows fine-tuning replays: their distribution, cap and order."""

import dataclasses

import conftest
import numpy as np
import pytest

from specialm import config as config_lib
from specialm import methods
from specialm.common.stages import Stages
from specialm.data.sampler import Sampler
from specialm.specialize import finetune
from specialm.workflows import pipeline, replaying

FRACTION, BATCH = 0.5, 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("replaying")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    config = config_lib.load(str(root / "config.py")).unlock()
    config.method, config.clustering.k = "slm", 4
    config.finetune.replay_fraction, config.finetune.batch_size = FRACTION, BATCH
    return pipeline.open_run(
        config.lock(), root / "run", ["linalg"], ("slm",), Stages(root / "run", quiet=True)
    )


def replayed(run, seed=3, **changes):
    """(what is replayed, its tune)."""
    config = run.config.copy_and_resolve_references().unlock()
    with config.ignore_type():
        for name, value in changes.items():
            part, _, name = name.partition("__")
            config[part][name] = value
    changed = dataclasses.replace(run, config=config.lock())
    part = pipeline.specialist(changed, "linalg")
    tune = finetune.for_set(config.train, config.finetune, part, False)
    return replaying.replayed(changed, part, tune, seed, "linalg"), tune, part


def generic_windows(found, run, steps):
    drawn = np.concatenate([found.draws.sampler.indices(step) for step in range(steps)])
    return drawn[drawn < len(run.generic)]


def test_uniform_draws_are_shuffled_epochs_of_all_windows(run):
    found, _, _ = replayed(run)
    windows = len(run.generic)
    drawn = generic_windows(found, run, 100)
    order = Sampler(windows, BATCH, 3).draws(0, len(drawn))[0]
    np.testing.assert_array_equal(drawn, order)
    assert found.inputs == [run.generic.fingerprint] and not found.notes


def test_weighted_draws_have_the_domains_histogram_within_the_cap(run):
    """The shares of the clusters are the weights of a pretraining of so many windows; no window
    comes more often than the cap says, rounded up.
    """
    cap = 1.0
    changes = {"finetune__max_steps": 1000, "finetune__max_epochs": 1e9}
    changes |= {"finetune__replay_draws": "importance", "clustering__max_repetitions": cap}
    found, tune, _ = replayed(run, **changes)
    assert tune.max_steps == 1000
    planned = int(tune.max_steps * BATCH * FRACTION)
    drawn = generic_windows(found, run, tune.max_steps)
    assert len(drawn) == planned
    clusters = run.clusters(methods.IMPORTANCE)
    generic_K = np.bincount(clusters.generic_N, minlength=4)
    own_K = np.bincount(clusters.domains["linalg"], minlength=4)
    wanted_K = own_K / own_K.sum()
    shares_K = np.bincount(clusters.generic_N[drawn], minlength=4) / planned
    times = np.bincount(drawn, minlength=len(run.generic))
    assert times.max() <= np.ceil(cap)
    full_K = planned * wanted_K > cap * generic_K * (1 + 1e-6)  # which the cap holds back
    assert full_K.any() and not full_K.all()  # what this test is about
    np.testing.assert_allclose(
        shares_K[full_K] * planned, cap * generic_K[full_K], rtol=0.02, atol=2
    )
    assert (shares_K[~full_K] >= wanted_K[~full_K] - 0.02).all()
    assert any("windows to draw" in line for line in found.notes)


def test_a_cap_that_is_left_to_us_is_that_of_pretraining(run):
    """It is not settled anew for the few windows that are replayed."""
    changes = {"finetune__max_steps": 1000, "finetune__max_epochs": 1e9}
    changes |= {"finetune__replay_draws": "importance"}
    given, _, _ = replayed(run, **changes, clustering__max_repetitions=1.0)
    settled = dataclasses.replace(run, _caps={"linalg": 1.0})
    found, _, _ = replayed(settled, **changes, clustering__max_repetitions="auto")
    other, _, _ = replayed(run, **changes, clustering__max_repetitions=8.0)
    assert found.inputs == given.inputs != other.inputs


def test_what_pretraining_draws_has_no_say(run):
    """Its tokens, its uniform beginning, specialist text mixed into it."""
    by_weight = {"finetune__replay_draws": "importance"}
    plain, _, _ = replayed(run, **by_weight)
    other = {"train__tokens": 10**6, "train__importance_start": 0.5, "train__batch_size": 16}
    other |= {"train__replay_fraction": 0.5, "train__specialist_fraction": 0.1}
    found, _, _ = replayed(run, **by_weight, **other)
    assert found.inputs == plain.inputs and len(plain.inputs) > 1
    for step in range(20):
        np.testing.assert_array_equal(
            found.draws.sampler.indices(step), plain.draws.sampler.indices(step)
        )


def test_own_windows_are_drawn_alike_either_way(run):
    drawn = []
    for draws in replaying.DRAWN_AS:
        found, _, part = replayed(run, finetune__replay_draws=draws)
        all_ = np.concatenate([found.draws.sampler.indices(step) for step in range(40)])
        drawn.append(all_[all_ >= len(run.generic)])
        assert drawn[-1].max() < len(run.generic) + len(part.train_indices)
    np.testing.assert_array_equal(*drawn)
