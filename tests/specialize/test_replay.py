"""Generic windows in fine-tuning: how many, which, and what is counted."""

import numpy as np
import pytest
from conftest import build_store

from specialm import config
from specialm.common.errors import UserError
from specialm.data.sampler import Sampler
from specialm.specialize import budget, finetune, replay

FRACTION = 0.25


@pytest.fixture(scope="module")
def own(vocabulary, real_documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "s"
    return build_store(path, vocabulary, real_documents[200:240])


@pytest.fixture
def specialist(own):
    indices = np.arange(0, len(own), 2)
    return finetune.Specialist("d", own, indices, own, indices[:4])


def settings(**changes):
    made = config.default()
    made.finetune.update({"replay_fraction": FRACTION, "batch_size": 8, **changes})
    made.finetune.learning_rate = 1e-3
    return made.train, made.finetune


def drawn(specialist, store, **changes):
    train, tune = settings(**changes)
    of_generic = Sampler(len(store), tune.batch_size, 3)
    return replay.draws(specialist, store, of_generic, train, tune, seed=3)


@pytest.mark.parametrize("fraction", [0.25, 0.3, 0.01])
def test_every_batch_has_its_share_of_generic_windows(store, own, specialist, fraction):
    """Exactly, rounded; and the own text in epochs: every window once before any comes again."""
    draws = drawn(specialist, store, replay_fraction=fraction)
    windows = len(specialist.train_indices)
    drawn_xB = np.stack([draws.sampler.indices(step) for step in range(400)])
    generic_x = (drawn_xB < len(store)).sum(axis=1)
    assert generic_x.max() - generic_x.min() <= 1
    assert np.abs(generic_x.cumsum() - fraction * 8 * np.arange(1, 401)).max() <= 0.5 + 1e-9
    flat = drawn_xB.reshape(-1)
    for part, size in ((flat[flat < len(store)], len(store)), (flat[flat >= len(store)], windows)):
        times = np.bincount(part - part.min(), minlength=1)
        first = part[:size]
        assert len(np.unique(first)) == len(first) and times.max() <= np.ceil(len(part) / size)


def test_a_batch_has_the_windows_of_both_stores(store, own, specialist):
    draws = drawn(specialist, store)
    chosen = draws.sampler.indices(5)
    targets_BxL = draws.store.batch(chosen)["targets"]
    for row, index in enumerate(chosen):
        here, place = store, index
        if index >= len(store):
            here, place = own, specialist.train_indices[index - len(store)]
        np.testing.assert_array_equal(targets_BxL[row], here.batch(np.array([place]))["targets"][0])


def test_epochs_are_counted_over_the_own_text(specialist):
    _, tune = settings(max_epochs=3.0, max_steps=100_000)
    windows = len(specialist.train_indices)
    steps = budget.max_steps(tune, windows)
    assert steps == np.ceil(3 * windows / (8 * (1 - FRACTION)))
    tune.max_steps = steps
    assert "(3.0 times over them" in budget.plan(tune, "x", windows)


def test_a_teacher_that_was_stored_is_refused(store, specialist):
    with pytest.raises(UserError, match="distill_top_k=4.*set one of both to 0"):
        drawn(specialist, store, distill_top_k=4)
