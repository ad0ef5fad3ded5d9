"""Moments in fewer bytes: the published codes, steps against NumPy, sharding, going on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_bank_step import CONFIGS, MODEL, make_batch, make_mesh
from test_loop import whole_and_resumed

from specialm.models import families, tensors
from specialm.models.families import mixture
from specialm.models.tensors import Tensor
from specialm.training import moments, optimizer, program, sharding, step
from specialm.training.moments import InBytes

KINDS = {"dense": MODEL, "bank": CONFIGS["projected"], "mixture": mixture.Config(MODEL, 4)}
DECLARED = {
    "map": Tensor((2, 5, 300), ("layers", "embed", "mlp"), tensors.zeros, 1, 1, decay=True),
    "out": Tensor((2, 3, 4, 6), ("layers", "heads", None, "embed"), tensors.zeros, 2, 1, True),
    "table": Tensor((7, 4), ("vocab", "embed"), tensors.zeros, decay=True),
    "scale": Tensor((9,), (None,), tensors.zeros),
}
AXES = {"map": ((1,), (2,)), "out": ((1, 2), (3,)), "table": ((0,), (1,))}  # inputs, outputs


def dynamic_map(signed):
    """The published values but 1.0: in each decade 2^i equal parts, at their middles."""
    count = 7 if signed else 8
    values = [0.0]
    for i in range(count):
        ends = np.linspace(0.1, 1, 2**i + 1)
        values += list(10.0 ** (i + 1 - count) * (ends[:-1] + ends[1:]) / 2)
    return np.array(values + [-value for value in values[1:]] if signed else values)


@pytest.mark.parametrize("signed", [True, False])
def test_codes_are_the_published_ones(signed):
    wanted = dynamic_map(signed)
    codes = np.arange(256, dtype=np.uint8)
    found = np.asarray(moments.value_of(jnp.asarray(codes), signed), np.float64)
    np.testing.assert_allclose(np.unique(found), np.unique(wanted), rtol=1e-6)
    kept = codes[codes != 128] if signed else codes  # of 0 there are two signs
    again = moments.code_of(moments.value_of(jnp.asarray(kept), signed), signed)
    np.testing.assert_array_equal(again, kept)
    assert np.abs(wanted).max() == moments.top(signed)


@pytest.mark.parametrize("signed", [True, False])
def test_a_number_moves_by_half_a_part_of_its_decade_at_most(signed):
    rng = np.random.default_rng(0)
    x = np.float32(10.0 ** rng.uniform(-6.9, 0, 5000))
    x *= np.where(signed & (rng.random(5000) < 0.5), -1, 1).astype(np.float32)
    found = np.asarray(moments.value_of(moments.code_of(jnp.asarray(x), signed), signed))
    count = 7 if signed else 8
    i = np.floor(np.log10(np.abs(x).astype(np.float64))) + count  # the decade, from the smallest
    half = 0.9 * 10.0 ** (i + 1 - count) / 2**i / 2
    assert (np.sign(found) == np.sign(x)).all()
    assert (np.abs(found - x) <= half * (1 + 1e-3) + 1e-6 * np.abs(x)).all()
    assert moments.value_of(moments.code_of(jnp.zeros(3), signed), signed).tolist() == [0, 0, 0]
    tiny = moments.value_of(moments.code_of(jnp.float32([1e-20]), signed), signed)
    assert tiny[0] == 0 if signed else tiny[0] > 0


def rounded(x, signed, axis):
    """A moment as it is kept, in float64."""
    moved = np.moveaxis(x, axis, -1)
    out, values = np.zeros_like(moved), np.sort(dynamic_map(signed))
    for start in range(0, moved.shape[-1], moments.BLOCK):
        block = moved[..., start : start + moments.BLOCK]
        scale = np.abs(block).max(-1, keepdims=True) / moments.top(signed)
        ratio = block / np.where(scale > 0, scale, 1)
        near = values[np.abs(ratio[..., None] - values).argmin(-1)]
        out[..., start : start + moments.BLOCK] = near * scale
    return np.moveaxis(out, -1, axis)


def test_blocks_run_along_an_axis_that_no_mesh_divides():
    axes = {name: moments.block_axis(tensor) for name, tensor in DECLARED.items()}
    assert axes == {"map": -1, "out": -2, "table": -1, "scale": -1}
    banked = Tensor((2, 3, 8, 12), ("layers", None, None, "bank"), tensors.zeros, 1, 2, True)
    assert moments.block_axis(banked) == -2


def drawn(seed):
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=tensor.shape) * 10.0 ** rng.uniform(-3, 0)).astype(np.float32)
        for name, tensor in DECLARED.items()
    }


def test_the_largest_of_a_block_stays_and_others_are_near():
    for signed in (True, False):
        kept = InBytes(DECLARED, signed)
        values = jax.tree.map(lambda x: x if signed else np.square(x), drawn(1))  # noqa: B023
        stored, _ = kept.moved(kept.start(jax.tree.map(np.zeros_like, values)), values, 0.0)
        assert stored.codes["map"].dtype == jnp.uint8
        assert stored.codes["scale"].dtype == jnp.float32
        assert stored.scales["map"].shape == (2, 5, 2) and stored.scales["out"].shape == (
            2,
            3,
            1,
            6,
        )
        back = jax.device_get(kept.read(stored))
        np.testing.assert_allclose(back["scale"], values["scale"], rtol=1e-6)
        for name, axis in (("map", -1), ("out", -2), ("table", -1)):
            wanted = rounded(values[name].astype(np.float64), signed, axis)
            off = np.abs(back[name] - wanted) > 1e-5 * np.abs(wanted)
            assert off.mean() < 0.03  # ends of decades
        first = np.abs(values["map"][..., :256]).max(-1)
        np.testing.assert_allclose(np.abs(back["map"][..., :256]).max(-1), first, rtol=1e-6)


@pytest.mark.parametrize("second", ["float32", "factored"])
def test_steps_against_numpy(second):
    """Five steps of Adam in float64, the factored moment after Shazeer and Stern's section 3."""
    beta1, beta2 = 0.9, 0.95
    kept = moments.Plain() if second == "float32" else moments.Factored(DECLARED)
    tx = moments.scale_by_adam(beta1, beta2, moments.Plain(), kept)
    state = tx.init(drawn(0))
    m = {name: np.zeros(t.shape) for name, t in DECLARED.items()}
    rows, columns = {}, {}
    v = {name: np.zeros(t.shape) for name, t in DECLARED.items()}
    for t in range(1, 6):
        grads = drawn(t)
        found, state = tx.update(grads, state)
        for name, grad in grads.items():
            g = grad.astype(np.float64)
            m[name] = beta1 * m[name] + (1 - beta1) * g
            if second == "factored" and name in AXES:
                inputs, outputs = AXES[name]
                r, c = (np.square(g).mean(axes, keepdims=True) for axes in (outputs, inputs))
                rows[name] = beta2 * rows.get(name, 0) + (1 - beta2) * r
                columns[name] = beta2 * columns.get(name, 0) + (1 - beta2) * c
                v[name] = rows[name] * columns[name] / rows[name].mean(inputs, keepdims=True)
            else:
                v[name] = beta2 * v[name] + (1 - beta2) * np.square(g)
            u = m[name] / (1 - beta1**t) / (np.sqrt(v[name] / (1 - beta2**t)) + 1e-8)
            np.testing.assert_allclose(found[name], u, rtol=2e-5, atol=1e-6, err_msg=name)
    if second == "factored":
        assert state.nu.rows["map"].shape == (2, 5, 1) and state.nu.columns["map"].shape == (
            2,
            1,
            300,
        )
        assert state.nu.rows["out"].shape == (2, 3, 4, 1) and state.nu.whole["scale"].shape == (9,)
        assert state.nu.whole["map"].size == state.nu.rows["scale"].size == 1


def test_plain_moments_are_optaxs():
    mine = moments.scale_by_adam(0.9, 0.98, moments.Plain(), moments.Plain())
    theirs = optax.scale_by_adam(0.9, 0.98)
    states = [tx.init(drawn(0)) for tx in (mine, theirs)]
    for t in range(3):
        made = [
            tx.update(drawn(t), state) for tx, state in zip((mine, theirs), states, strict=True)
        ]
        states = [state for _, state in made]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), made[0][0], made[1][0]
        )


def settings(tiny_train, first, second, name="adamw"):
    tiny_train.moment_dtype, tiny_train.second_moment_dtype = first, second
    tiny_train.optimizer = name
    return tiny_train


@pytest.mark.parametrize(
    "kind,first,second",
    [
        pytest.param("bank", "int8", "int8", marks=pytest.mark.slow),
        pytest.param("bank", "int8", "factored", marks=pytest.mark.slow),
        pytest.param("dense", "int8", "bfloat16", marks=pytest.mark.slow),
        pytest.param("mixture", "int8", "factored", marks=pytest.mark.slow),
    ],
)
def test_steps_are_about_those_of_float32_on_any_mesh(kind, first, second, tiny_train):
    """Two steps: with bytes parameters near to those with plain moments, and the same on one device
    as on two over which parameters and moments are divided."""
    config = KINDS[kind]
    declared = families.declare(config)
    params = tensors.init(declared, jax.random.key(1))
    batch = make_batch(CONFIGS["projected"], 2)
    if kind != "bank":
        del batch["features"]
    found = {}
    for name, given, devices in (
        ("plain", ("float32", "factored" if second == "factored" else "float32"), 1),
        ("one", (first, second), 1),
        ("two", (first, second), 2),
    ):
        mesh = make_mesh(devices, fsdp=devices)
        tx = optimizer.make(settings(tiny_train, *given), 10, declared)
        state = step.init_state(config, tx, mesh, params=params)
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        assert shapes == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), step.abstract_state(config, tx)
        )
        train_step = program.make_train_step(config, tx, mesh, 1)
        for _ in range(2):
            state, _ = train_step(state, sharding.put_batch(mesh, batch))
        assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        if name == "two" and kind == "bank":
            leaves = jax.tree_util.tree_leaves_with_path(state.optimizer)
            banked = [x for path, x in leaves if "codes" in str(path) and "'bank'" in str(path)]
            assert banked and all(
                x.addressable_shards[0].data.size * 2 == x.size for x in banked if x.ndim == 4
            )
        found[name] = jax.device_get(state.params)
    for plain, one, two, start in zip(
        *(jax.tree.leaves(found[name]) for name in ("plain", "one", "two")),
        jax.tree.leaves(params),
        strict=True,
    ):
        moved = np.abs(plain - start).mean()
        np.testing.assert_allclose(one, two, atol=0.02 * moved + 1e-6)
        assert np.abs(one - plain).mean() < 0.25 * moved + 1e-7


def test_training_goes_on_to_the_bit(tiny_model, tiny_train, store, vocabulary, tmp_path):
    settings(tiny_train, "int8", "int8")
    both = whole_and_resumed(tmp_path, tiny_model, tiny_train, vocabulary, store)
    jax.tree.map(np.testing.assert_array_equal, *both)


def test_muon_has_its_momentum_from_bytes(tiny_train):
    declared = {"w": Tensor((8, 12), ("embed", "mlp"), tensors.normal(1.0), 1, decay=True)}
    params = tensors.init(declared, jax.random.key(1))
    grads = tensors.init(declared, jax.random.key(2))
    made = {}
    for first in ("float32", "int8"):
        tx = optimizer.make(settings(tiny_train, first, "float32", "muon"), 10, declared)
        update, state = jax.jit(tx.update), tx.init(params)
        for _ in range(2):
            made[first], state = update(grads, state, params)
    for one, other in zip(*(jax.tree.leaves(made[name]) for name in made), strict=True):
        assert np.abs(one - other).mean() < 0.05 * np.abs(one).mean() + 1e-9


def test_bytes_of_a_wide_matrix(tiny_train):
    """Of [512, 512]: 1 byte and a scale for 256 each, or two means."""
    declared = {"w": Tensor((512, 512), ("embed", "mlp"), tensors.zeros, 1, decay=True)}
    params = tensors.init(declared, jax.random.key(0))

    def size(first, second):
        tx = optimizer.make(settings(tiny_train, first, second), 10, declared)
        state = jax.eval_shape(tx.init, params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))

    both, counts = 512 * 512, 8
    assert size("float32", "float32") == 8 * both + counts
    assert size("int8", "int8") == 2 * (both + 4 * both // 256) + counts
    assert size("int8", "factored") == both + 4 * both // 256 + 4 * (2 * 512 + 1) + counts
