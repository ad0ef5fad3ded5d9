"""Values that a small mistake in fine-tuning would change: units, rates, seeds, rows."""

import copy
import dataclasses
import types

import jax
import numpy as np
import pytest

from specialm import config
from specialm.models import transformer
from specialm.specialize import distill, finetune, teacher
from specialm.training import metrics, objectives, sharding


def windows(sizes):
    """A specialist set of windows of so many tokens each."""
    store = types.SimpleNamespace(sizes_N=np.array(sizes))
    return finetune.Specialist("d", store, np.arange(len(sizes)), store, np.arange(0))


def tuned(sizes, untrained=False, **changes):
    made = config.default()
    made.train.learning_rate = 0.3
    made.finetune.update(changes)
    return finetune.for_set(made.train, made.finetune, windows(sizes), untrained)


def test_epochs_are_over_windows():
    found = tuned([16] * 24, batch_size=8, max_epochs=2.0, max_steps=600)
    assert found.max_steps == 6
    assert tuned([16] * 24, batch_size=8, max_epochs=2.0, max_steps=5).max_steps == 5


@pytest.mark.parametrize(
    ("sizes", "untrained", "rate"),
    [
        ([100] * 3, False, 0.3),  # 300 tokens: at the threshold
        ([100, 100, 99], False, 0.1),
        ([1] * 299, False, 0.1),  # as many windows as tokens
        ([1] * 2, True, 0.3),
    ],
)
def test_the_full_rate_is_for_sets_of_so_many_tokens(sizes, untrained, rate):
    found = tuned(sizes, untrained, full_rate_tokens=300, learning_rate=0.0)
    assert found.learning_rate == pytest.approx(rate)
    assert tuned(sizes, untrained, full_rate_tokens=300, learning_rate=0.7).learning_rate == 0.7


def test_only_the_windows_in_use_count():
    part = dataclasses.replace(windows([100] * 5), train_indices=np.array([1, 3]))
    made = config.default()
    made.finetune.update(full_rate_tokens=300, learning_rate=0.0, batch_size=1, max_epochs=1.0)
    found = finetune.for_set(made.train, made.finetune, part, False)
    assert found.max_steps == 2
    assert found.learning_rate == pytest.approx(made.train.learning_rate / 3)


def test_the_optimizer_of_fine_tuning():
    made = config.default()
    made.train.update(weight_decay=0.5, warmup_steps=9, schedule="cosine", beta1=0.3)
    made.finetune.update(weight_decay=0.25, warmup_steps=4, learning_rate=0.01)
    found = finetune.settings(made.train, made.finetune)
    assert (found.weight_decay, found.warmup_steps, found.schedule) == (0.25, 4, "constant")
    assert (found.learning_rate, found.beta1) == (0.01, 0.3)


@pytest.fixture(scope="module")
def short():
    """Settings of four steps, evaluated before and after."""
    made = config.default()
    made.train.update(tensorboard=False, learning_rate=0.03)
    made.finetune.update(batch_size=8, eval_every=2, max_steps=4, warmup_steps=1)
    return made


@pytest.fixture(scope="module")
def params(tiny_model):
    return jax.jit(transformer.init, static_argnums=0)(tiny_model, jax.random.key(0))


def fit(path, tiny_model, params, store, made, seed, spy=None):
    part = finetune.Specialist("d", store, np.arange(5, 29), store, np.arange(400, 410))
    objective = objectives.make("next_token", tiny_model)
    if spy:
        objective = dataclasses.replace(objective, columns=columns, transform=spy)
    trained = finetune.parameter_map(tiny_model, params, made.finetune, seed)
    mesh = sharding.make_mesh(8)
    tune = finetune.for_set(made.train, made.finetune, part, False)
    finetune.fit(path, tiny_model, trained, objective, part, made.train, tune, seed, mesh, "t")
    return [record["loss"] for record in metrics.read(path / "metrics.jsonl")[1:]]


def columns(rows):
    return {"row": np.repeat(rows[:, None], 16, 1)}


def test_the_seed_is_that_of_the_order(tiny_model, params, store, short, tmp_path):
    """From the same parameters, without adapters: the first batches are others."""
    three, four = (
        fit(tmp_path / str(seed), tiny_model, params, store, short, seed) for seed in (3, 4)
    )
    assert three[0] != four[0]


def test_columns_are_those_of_the_rows_of_the_batch(tiny_model, params, store, short, tmp_path):
    """A teacher is stored by the place in the training set, which is not the store's."""
    seen = []

    def spy(batch, seed, step, rows):
        seen.extend(zip(batch.pop("row")[:, 0], batch["targets"], strict=True))
        return batch

    fit(tmp_path / "run", tiny_model, params, store, short, 0, spy)
    assert {row for row, _ in seen} == set(range(24))  # 4 steps of 8: each at least once
    for row, targets_L in seen:
        np.testing.assert_array_equal(targets_L, store.read(np.arange(5, 29)[[row]])[0])


def test_the_time_of_storing_a_teacher_is_in_the_ledger(tiny_model, monkeypatch, tmp_path):
    """With its tokens, whatever fine-tuning took."""
    stored = teacher.Stored(np.zeros((30, 16, 2), np.int32), np.zeros((30, 16, 2)), 1000.0)
    monkeypatch.setattr(teacher, "store", lambda *given: stored)
    entry = {"tokens": 64, "flops": 1, "seconds": 5.0}
    monkeypatch.setattr(finetune, "fit", lambda *given: dict(entry))
    monkeypatch.setattr(finetune, "parameter_map", lambda *given: None)
    part, made = windows([16]), config.default()
    flops = transformer.flops_per_token(tiny_model, train=False)
    for top_k, seconds, tokens in ((2, 1005.0, 30 * 16), (0, 5.0, 64)):
        tune = copy.deepcopy(made.finetune)
        tune.distill_top_k = top_k
        given = tmp_path, tiny_model, None, tiny_model, None, part, made.train, tune, 0, None
        found = distill.distill(*given)
        assert found["seconds"] == seconds and found["phase"] == "distilled"
        assert found["teacher_flops"] == tokens * flops and found["flops"] == 1 + tokens * flops
