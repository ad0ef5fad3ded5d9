"""Parameters and moments in bfloat16: rounding, the step of every kind of model, going on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_bank_step import BATCH, CONFIGS, MODEL, make_batch
from test_loop import whole_and_resumed

from specialm.models import families, tensors
from specialm.models.families import mixture
from specialm.planning import step_memory
from specialm.training import narrow, optimizer, program, sharding, step

KINDS = {"dense": MODEL, "bank": CONFIGS["projected"], "mixture": mixture.Config(MODEL, 4)}


def narrow_settings(tiny_train):
    tiny_train.param_dtype = tiny_train.moment_dtype = "bfloat16"
    tiny_train.second_moment_dtype = "bfloat16"
    return tiny_train


LARGE = float(np.float32(3e38))


@given(st.floats(-LARGE, LARGE, width=32, allow_subnormal=False), st.integers(0, 100))
def test_a_number_becomes_one_of_its_neighbours(value, seed):
    x = jnp.full(64, value, jnp.float32)
    made = np.asarray(narrow.rounded(x, jax.random.key(seed)), np.float64)
    bits = np.float32(value).view(np.uint32) & np.uint32(0xFFFF0000)
    toward = np.float64(bits.view(np.float32))
    away = np.float64((bits + np.uint32(0x10000)).view(np.float32))
    assert np.isin(made, [toward, away]).all()
    if toward == np.float32(value):
        assert (made == value).all()


def test_rounding_is_right_on_average():
    """Of numbers between two neighbours: the mean of n draws is off by about gap / (2 sqrt n)."""
    x = np.float32([1.0002, 3.001, -0.7003, 1e-30, 5e4])
    many = jnp.asarray(np.repeat(x[:, None], 40_000, axis=1))
    made = np.asarray(narrow.rounded(many, jax.random.key(0)), np.float64)
    gap = 2.0 ** (np.floor(np.log2(np.abs(x))) - 7)
    assert (np.abs(made.mean(axis=1) - x) < 4 * gap / 2 / np.sqrt(40_000)).all()
    for special in (np.inf, -np.inf, 0.0):
        assert narrow.rounded(jnp.float32(special), jax.random.key(1)) == special


def test_steps_far_below_a_gap_add_up():
    """1,000 steps of 1e-4 from 1, where bfloat16's numbers are 0.0078 apart: to the nearest,
    nothing would ever change."""
    tx = optax.sgd(1e-4)
    state = step.TrainState(jnp.int32(0), {"w": jnp.ones(4000, jnp.bfloat16)}, None)
    state = dataclasses.replace(state, optimizer=tx.init(state.params))
    grads = {"w": jnp.ones(4000)}

    def one(state, _):
        return step.update(state, tx, jnp.float32(0), jnp.float32(1), grads)[0], None

    after = jax.lax.scan(one, state, None, length=1000)[0].params["w"]
    assert after.dtype == jnp.bfloat16
    assert abs(float(after.astype(jnp.float32).mean()) - 0.9) < 0.005


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.slow if kind == "mixture" else ()) for kind in KINDS],
)
def test_a_step_is_that_of_float32_but_for_rounding(kind, tiny_train):
    """From parameters that bfloat16 holds: the same loss and gradients; matrices and moments move
    to a neighbour of where they belong, all else is float32."""
    config, mesh = KINDS[kind], sharding.make_mesh(BATCH)
    declared = families.declare(config)
    exact = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32),
        tensors.init(declared, jax.random.key(1)),
    )
    batch = {k: v for k, v in make_batch(CONFIGS["projected"], 2).items()}
    if kind != "bank":
        del batch["features"]
    found = {}
    for dtype in ("float32", "bfloat16"):
        if dtype == "bfloat16":
            narrow_settings(tiny_train)
        tx = optimizer.make(tiny_train, 10, declared)
        state = step.init_state(config, tx, mesh, params=exact, dtype=dtype)
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        train_step = program.make_train_step(config, tx, mesh, 1)
        state, metrics = train_step(state, sharding.put_batch(mesh, batch))
        assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        assert shapes == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), step.abstract_state(config, tx, dtype)
        )
        found[dtype] = jax.device_get(state), {k: float(v) for k, v in metrics.items()}
    (wide, wide_metrics), (thin, thin_metrics) = found["float32"], found["bfloat16"]
    assert thin_metrics["loss"] == pytest.approx(wide_metrics["loss"], rel=1e-6)
    assert thin_metrics["grad_norm"] == pytest.approx(wide_metrics["grad_norm"], rel=2e-3)
    leaves = tensors.map_tensors(lambda tensor: tensor.decay, declared)
    for matrix, one, other in zip(
        *(jax.tree.leaves(tree) for tree in (leaves, wide.params, thin.params)), strict=True
    ):
        assert other.dtype == (jnp.bfloat16 if matrix else np.float32)
        off = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
        # A gradient that is rounded to bfloat16 may turn the sign of a step where it is about 0.
        assert np.mean(off > np.abs(one) * 2**-7 + 1e-6) < 0.02


def test_training_goes_on_from_a_narrow_state_to_the_bit(
    tiny_model, tiny_train, store, vocabulary, tmp_path
):
    narrow_settings(tiny_train)
    both = whole_and_resumed(tmp_path, tiny_model, tiny_train, vocabulary, store)
    jax.tree.map(np.testing.assert_array_equal, *both)
    # Whoever reads the model gets float32 numbers, which bfloat16 holds.
    for leaf in jax.tree.leaves(both[0]):
        assert leaf.dtype == np.float32
    tokens = both[0]["embed"]["tokens"]
    np.testing.assert_array_equal(tokens, tokens.astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_that_the_devices_hold(kind, dtype, tiny_train):
    config, mesh = KINDS[kind], sharding.make_mesh(BATCH)
    if dtype == "bfloat16":
        narrow_settings(tiny_train)
    tx = optimizer.make(tiny_train, 10, families.declare(config))
    state = step.init_state(config, tx, mesh, jax.random.key(0), dtype=dtype)

    def held(tree):
        return sum(
            part.data.nbytes for leaf in jax.tree.leaves(tree) for part in leaf.addressable_shards
        )

    found = step_memory.of_step(config, tx, dtype, 2, mesh)
    assert found["parameters"] == held(state.params)
    assert found["moments"] == held(state.optimizer)
    wide = step.init_state(config, tx, mesh, jax.random.key(0))
    banked = state.params.get("bank", {})
    rest = {name: part for name, part in wide.params.items() if name != "bank"}
    assert found["gradients"] == held(rest) + held(banked)
    one = step_memory.of_step(config, tx, dtype, 2)
    assert one["parameters"] <= found["parameters"]
