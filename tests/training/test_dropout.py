import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm import config as config_lib
from specialm.data.sampler import Sampler
from specialm.models import families, transformer
from specialm.models.dropout import KEYS, RATE, Dropout
from specialm.models.families import bank, mixture
from specialm.models.parts import attention
from specialm.models.parts.mlps import MLPS
from specialm.models.placement import WHOLE
from specialm.training import dropout, loop, objectives, program, runs, sharding, step
from specialm.training.checkpoints import Checkpoints

DENSE = transformer.Config(vocab_size=24, context=8, num_layers=1, d_model=16, num_heads=2, d_ff=32)


def settings(**changes):
    train = config_lib.default().train
    for name, value in changes.items():
        train[name] = value
    return train


@pytest.mark.parametrize(
    "schedule,fraction,shares",
    [
        ("constant", 0.5, [1, 1, 1, 1, 1]),
        ("linear", 0.5, [0, 0.5, 1, 1, 1]),
        ("linear", 1.0, [0, 0.25, 0.5, 0.75, 1]),
        ("linear", 0.0, [1, 1, 1, 1, 1]),
        ("triangle", 0.5, [0, 0.5, 1, 0.5, 0]),
        ("triangle", 0.25, [0, 1, 2 / 3, 1 / 3, 0]),
        ("triangle", 1.0, [0, 0.25, 0.5, 0.75, 1]),
        ("triangle", 0.0, [1, 0.75, 0.5, 0.25, 0]),
        ("early", 0.5, [1, 1, 0, 0, 0]),
        ("early", 0.0, [0, 0, 0, 0, 0]),
    ],
)
def test_rates_are_those_of_the_schedule(schedule, fraction, shares):
    train = settings(dropout=0.2, dropout_schedule=schedule, dropout_fraction=fraction)
    rates = [dropout.rate(train, step, 4) for step in range(5)]
    np.testing.assert_allclose(rates, 0.2 * np.array(shares), atol=1e-12)


def test_every_schedule_is_a_choice_of_the_setting():
    allowed = config_lib.SETTINGS["train.dropout_schedule"].choices.names
    assert set(allowed) == set(dropout.SCHEDULES)


def keys_of(count, seed=0):
    return np.random.default_rng(seed).integers(0, 2**32, (count, 2), np.uint32)


@given(rate=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_the_share_that_is_dropped_and_what_the_others_become(rate, seed):
    x_TxD = np.random.default_rng(seed).normal(size=(4 * 50, 40)).astype(np.float32)
    made = Dropout(keys_of(4, seed), np.full((4, 1), rate, np.float32)).apply(x_TxD, 3)
    stays = np.asarray(made) != 0
    exact = round(rate * 2**24) / 2**24
    np.testing.assert_allclose(np.asarray(made)[stays], x_TxD[stays] / (1 - exact), rtol=1e-6)
    assert abs((1 - stays.mean()) - rate) < 5 * np.sqrt(max(rate * (1 - rate), 1e-4) / stays.size)


def test_what_is_dropped_depends_on_the_window_and_the_place_alone():
    keys, rate = keys_of(6), np.full((6, 1), 0.5, np.float32)
    x_TxD = np.ones((6 * 8, 16), np.float32)
    whole = np.asarray(Dropout(keys, rate).apply(x_TxD, 2)).reshape(6, 8, 16)
    part = np.asarray(Dropout(keys[4:], rate[4:]).apply(x_TxD[:16], 2)).reshape(2, 8, 16)
    np.testing.assert_array_equal(whole[4:], part)
    other = np.asarray(Dropout(keys, rate).apply(x_TxD, 1)).reshape(6, 8, 16)
    masks = [*whole, *other]
    assert len({mask.tobytes() for mask in masks}) == 12


def test_draws_are_as_good_as_independent():
    """Of neighbouring keys and places, numbers and windows: correlations as of coins, and the
    counts of each pair of bits."""
    keys = np.array([[i, j] for i in (0, 1, 7) for j in (0, 1, 2**31)], np.uint32)
    x_TxD = np.ones((len(keys) * 64, 64), np.float32)
    drop = Dropout(keys, np.full((len(keys), 1), 0.5, np.float32))
    masks = np.stack([drop.apply(x_TxD, place) for place in (0, 1, 2)]) > 0
    rows = masks.reshape(3 * len(keys), -1).astype(np.float64)
    correlation = np.corrcoef(rows)
    assert np.abs(correlation - np.eye(len(rows))).max() < 5 / np.sqrt(rows.shape[1])
    for shift in (1, 2, 64):
        moved = np.mean((rows[:, shift:] == rows[:, :-shift]), axis=1)
        assert np.abs(moved - 0.5).max() < 2.5 / np.sqrt(rows.shape[1])


def test_it_is_where_the_docstring_says():
    """One layer, put together by hand of its parts."""
    config = DENSE
    params = transformer.init(config, jax.random.key(0))
    inputs_BxL = np.random.default_rng(0).integers(0, 24, (3, 8))
    drop = Dropout(jnp.asarray(keys_of(3)), jnp.full((3, 1), 0.3))
    w = jax.tree.map(lambda leaf: leaf[0], params["layers"])

    def norm(weights, x_TxD):
        centred = x_TxD - x_TxD.mean(1, keepdims=True)
        scaled = centred / jnp.sqrt((centred**2).mean(1, keepdims=True) + config.norm_epsilon)
        return scaled * weights["scale"] + weights["bias"]

    x_TxD = drop.apply(transformer.embedded(params, inputs_BxL, 0, config), 0)
    mixed = attention.apply(w["attention"], norm(w["norm1"], x_TxD), 8, config, WHOLE)
    x_TxD += drop.apply(mixed, 1)
    x_TxD += drop.apply(MLPS[config.mlp].apply(w["mlp"], norm(w["norm2"], x_TxD), WHOLE), 2)
    want = norm(params["heads"]["last"]["norm"], x_TxD)
    found = transformer.hidden(params, inputs_BxL, config, dropout=drop)[transformer.LAST]
    np.testing.assert_allclose(found, want, atol=2e-6)
    plain = transformer.hidden(params, inputs_BxL, config)[transformer.LAST]
    assert np.abs(plain - found).max() > 0.1


def test_without_a_rate_nothing_is_drawn():
    objective, rows = objectives.next_token(DENSE), np.arange(2)
    assert dropout.scheduled(objective, settings(), 10) is objective
    train = settings(dropout=0.1, dropout_schedule="early", dropout_fraction=0.3)
    batch = {"inputs": np.zeros((2, 8), np.int32)}
    transform = dropout.scheduled(objective, train, 10).transform
    assert [KEYS in transform(batch, 0, step, rows) for step in range(5)] == [True] * 3 + [
        False
    ] * 2
    first = transform(batch, 0, 1, rows)
    assert first[RATE].tolist() == [[np.float32(0.1)]] * 2
    np.testing.assert_array_equal(transform(batch, 0, 1, rows[1:])[KEYS], first[KEYS][1:])
    assert not np.array_equal(transform(batch, 1, 1, rows)[KEYS], first[KEYS])
    assert not np.array_equal(transform(batch, 0, 2, rows)[KEYS], first[KEYS])


FAMILIES: dict[str, families.Config] = {
    "dense": DENSE,
    "projected": bank.Config(DENSE, "projected", 4, 3, 2, (0,)),
    "mixture": mixture.Config(DENSE, 2),
}


@functools.cache
def losses(name, sizes, microbatch):
    """Of two steps of a family on a mesh of these sizes."""
    config, devices = FAMILIES[name], int(np.prod(sizes))
    mesh = jax.make_mesh(
        sizes,
        sharding.AXES,
        axis_types=(jax.sharding.AxisType.Auto,) * 4,
        devices=jax.devices()[:devices],
    )
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, 24, (2, 8, 8))
    batch = {"inputs": inputs, "targets": targets, "mask": np.ones((8, 8), np.float32)}
    if name == "projected":
        batch["features"] = np.eye(4, dtype=np.float32)
    batch[KEYS], batch[RATE] = keys_of(8), np.full((8, 1), 0.4, np.float32)
    tx, found = optax.adam(1e-2), []
    state = step.init_state(config, tx, mesh, jax.random.key(0))
    train_step = program.make_train_step(config, tx, mesh, microbatch)
    for _ in range(2):
        state, metrics = train_step(state, sharding.put_batch(mesh, batch))
        found.append([float(metrics["loss"]), float(metrics["grad_norm"])])
    return np.array(found)


@pytest.mark.parametrize(
    "name,sizes",
    [
        ("dense", (1, 2, 1, 1)),
        ("dense", (1, 1, 2, 1)),
        ("dense", (1, 1, 1, 2)),
        ("projected", (1, 2, 1, 1)),
        ("mixture", (2, 1, 1, 1)),
    ],
)
def test_two_devices_and_other_parts_drop_the_same(name, sizes):
    one = losses(name, (1, 1, 1, 1), 4)
    np.testing.assert_allclose(losses(name, sizes, 1), one, rtol=2e-5)


def trained(path, config, train, store, sampler):
    loop.pretrain(path, config, train, store, sampler, 0, sharding.make_mesh())
    mesh = sharding.make_mesh()
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return jax.device_get(checkpoints.restore(runs.abstract_params(config, mesh))[1])


def test_a_resumed_run_drops_the_same(tmp_path, tiny_model, tiny_train, store):
    """Killed at step 11 of 16, in the middle of a triangle, resumed from step 8."""
    tiny_train.tokens = 16 * 8 * store.context
    tiny_train.dropout, tiny_train.dropout_schedule = 0.2, "triangle"
    sampler = Sampler(len(store), tiny_train.batch_size, 0)
    whole = trained(tmp_path / "whole", tiny_model, tiny_train, store, sampler)

    def stopped(self, step):
        if step == 11:
            raise RuntimeError("power cut")
        return Sampler.indices(self, step)

    broken = type("Broken", (Sampler,), {"indices": stopped})(len(store), 8, 0)
    with pytest.raises(RuntimeError, match="power cut"):
        trained(tmp_path / "run", tiny_model, tiny_train, store, broken)
    again = trained(tmp_path / "run", tiny_model, tiny_train, store, sampler)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    tiny_train.dropout = 0.0
    plain = trained(tmp_path / "plain", tiny_model, tiny_train, store, sampler)
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(whole), strict=True)
    )
