"""Tables of n-grams in training: the rows of a batch move as Adam says, the others not at all."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.models import transformer
from specialm.models.families import bank
from specialm.models.parts import ngram_tables
from specialm.training import optimizer, program, quantized, sharding, step, touched

MODEL = transformer.Config(
    vocab_size=50,
    context=6,
    num_layers=1,
    d_model=8,
    num_heads=2,
    d_ff=8,
    embedder="ngrams",
    ngram_order=4,
    ngram_rows=300,
)


def settings(**changes) -> ConfigDict:
    train = config_lib.default().train
    train.update({"learning_rate": 1e-2, "warmup_steps": 0, "schedule": "constant", **changes})
    return train


def batch_of(seed: int, rows: int = 4) -> dict:
    rng = np.random.default_rng(seed)
    inputs, targets = rng.integers(0, MODEL.vocab_size, (2, rows, MODEL.context), dtype=np.int32)
    inputs[1] = inputs[0]  # n-grams that are there twice
    return {"inputs": inputs, "targets": targets, "mask": np.ones(inputs.shape, np.float32)}


def trained(train: ConfigDict, batches: list[dict], model=MODEL):
    """([the state after each batch, the first before any], [metrics])."""
    mesh = sharding.make_mesh(2)
    tx = optimizer.make(train, 10, transformer.declare(model))
    state = step.init_state(model, tx, mesh, jax.random.key(0))
    states, metrics = [jax.device_get(state)], []
    rounding = quantized.of_training(train, 10, transformer.declare(model))
    train_step = step.make_train_step(model, tx, mesh, rounding=rounding)
    for batch in batches:
        state, found = train_step(state, sharding.put_batch(mesh, batch))
        states.append(jax.device_get(state))
        metrics.append(jax.device_get(found))
    return states, metrics


def rows_of(batch: dict) -> np.ndarray:
    padded = np.pad(batch["inputs"], ((0, 0), (MODEL.ngram_order - 1, 0)))
    return np.unique(ngram_tables.rows(padded, MODEL))


def tables(state) -> list[np.ndarray]:
    """The table and what the optimizer has of it."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [leaf for path, leaf in leaves if touched.is_table(path)]


def test_rows_that_no_window_reads_stay_as_they_are_with_their_moments():
    batches = [batch_of(seed) for seed in range(3)]
    states, _ = trained(settings(weight_decay=0.5), batches)
    for batch, before, after in zip(batches, states, states[1:], strict=False):
        read = np.isin(np.arange(3 * MODEL.ngram_rows), rows_of(batch))
        assert 0 < read.sum() < 3 * 24
        assert len(tables(after)) == 3
        for old, new in zip(tables(before), tables(after), strict=True):
            np.testing.assert_array_equal(old[~read], new[~read])
            assert (np.abs(new - old).max(axis=1) > 0)[read].all()


def test_rows_that_are_read_move_as_lazy_adam_of_numpy():
    train = settings(weight_decay=0.5, clip_norm=0.5)
    batches = [batch_of(seed) for seed in (0, 1, 0)]
    states, metrics = trained(train, batches)
    p = np.asarray(states[0].params["embed"]["ngrams"], np.float64)
    m, v = np.zeros_like(p), np.zeros_like(p)
    for number, (batch, state) in enumerate(zip(batches, states, strict=False), 1):
        given = [batch[name] for name in ("inputs", "targets", "mask")]
        grads = jax.grad(transformer.loss)(state.params, *given, MODEL)
        grads = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), grads)
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(grads)))
        assert metrics[number - 1]["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert norm > train.clip_norm
        read = rows_of(batch)
        g = grads["embed"]["ngrams"][read] * train.clip_norm / norm
        m[read] = train.beta1 * m[read] + (1 - train.beta1) * g
        v[read] = train.beta2 * v[read] + (1 - train.beta2) * g**2
        ahead = m[read] / (1 - train.beta1**number)
        size = np.sqrt(v[read] / (1 - train.beta2**number)) + 1e-8
        p[read] -= train.learning_rate * (ahead / size + train.weight_decay * p[read])
        np.testing.assert_allclose(states[number].params["embed"]["ngrams"], p, atol=2e-5)


@pytest.mark.parametrize(
    "changes,width",
    [
        ({}, 8),
        ({"optimizer": "muon"}, 8),
        pytest.param({"moment_dtype": "int8"}, 8, marks=pytest.mark.slow),
        ({"quantize_bits": 4, "quantize_from": 0.0}, 8),
        ({"quantize_bits": 4, "quantize_from": 0.0}, 32),
    ],
)
def test_with_the_same_batch_again_it_is_the_step_of_the_whole_table(changes, width, monkeypatch):
    """Without decay: rows that are never read have no moments that could move them."""
    train, batches = settings(weight_decay=0.0, **changes), [batch_of(5)] * 3
    model = dataclasses.replace(MODEL, d_model=width)
    states, metrics = trained(train, batches, model)
    monkeypatch.setattr(touched, "of", lambda *_: touched.Whole())
    wanted, wanted_metrics = trained(train, batches, model)
    for found, whole in zip(metrics, wanted_metrics, strict=True):
        np.testing.assert_allclose(found["loss"], whole["loss"], rtol=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
    jax.tree.map(close, states[-1].params, wanted[-1].params)


@pytest.mark.parametrize("every", [1, 2])
def test_a_bank_trains_the_rows_of_its_table_too(every, monkeypatch):
    """At every step or every other one: as a step of the whole table, and other rows stay."""
    config = bank.Config(MODEL, "projected", 4, 3, 2, (0,))
    train, mesh = settings(weight_decay=0.0, bank_every=every), sharding.make_mesh(2)
    batch = {**batch_of(5), "features": np.eye(4, dtype=np.float32)[:2]}

    def after():
        tx = optimizer.make(train, 10, bank.declare(config), 2)
        state = step.init_state(config, tx, mesh, jax.random.key(0))
        before = jax.device_get(state.params)
        train_step = program.make_train_step(config, tx, mesh)
        for _ in range(2):
            state, metrics = train_step(state, sharding.put_batch(mesh, batch))
        return before, jax.device_get(state.params), jax.device_get(metrics)

    before, found, metrics = after()
    monkeypatch.setattr(touched, "of", lambda *_: touched.Whole())
    _, wanted, wanted_metrics = after()
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
    jax.tree.map(close, (found, metrics), (wanted, wanted_metrics))
    change = found["shared"]["embed"]["ngrams"] - before["shared"]["embed"]["ngrams"]
    read = np.isin(np.arange(len(change)), rows_of(batch))
    assert np.abs(change[read]).max() > 0 and not np.any(change[~read])


@pytest.mark.parametrize(
    "model,train,rows,all_of_them",
    [
        (MODEL, {}, 4, False),
        (MODEL, {}, 80, True),  # as many as the table has
        (MODEL, {"second_moment_dtype": "factored"}, 4, True),
        (dataclasses.replace(MODEL, embedder="tokens"), {}, 4, True),
    ],
)
def test_all_rows_are_trained_where_that_is_no_more_or_cannot_be_divided(
    model, train, rows, all_of_them
):
    tx = optimizer.make(settings(**train), 10, transformer.declare(model))
    state = step.abstract_state(model, tx)

    def is_whole(inputs):
        return not isinstance(touched.of(model, inputs, state), touched.Touched)

    found = []
    jax.eval_shape(lambda inputs: found.append(is_whole(inputs)), batch_of(0, rows)["inputs"])
    assert found == [all_of_them]
