"""Values that a small mistake in the models would change: scales, dtypes, large scores."""

import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from specialm.models import lora, operations, tensors, transformer
from specialm.models import loss as loss_lib
from specialm.models.families import bank
from specialm.models.parts.norms import NORMS
from specialm.models.parts.positions import rope
from specialm.models.placement import FSDP, Placement

MODEL = transformer.Config(vocab_size=3, context=2, num_layers=2, d_model=4, num_heads=1, d_ff=2)


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_of_bfloat16_is_within_one_rounding_of_float64(name):
    """Also far from 0, where a mean in bfloat16 loses the differences."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(20, 1, (8, 64)), jnp.bfloat16)
    scale, bias = rng.normal(1, 0.1, 64), rng.normal(0, 0.1, 64)
    weights = {"scale": jnp.float32(scale), "bias": jnp.float32(bias)}
    wide = np.asarray(x, np.float64)
    if name == "layernorm":
        wide = wide - wide.mean(-1, keepdims=True)
    want = wide / np.sqrt(np.square(wide).mean(-1, keepdims=True) + 1e-5) * scale
    want += bias if name == "layernorm" else 0
    if name == "rmsnorm_plus1":
        weights["scale"] -= 1
    made = NORMS[name].apply(weights, x, 1e-5)
    assert made.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(made, np.float64), want, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("implementation", ["blocked", "fused"])
def test_attention_of_large_scores(implementation):
    """Scores of 150 and 200, whose exponentials float32 does not hold, against float64."""
    q = np.zeros((1, 3, 1, 4), np.float32)
    k, v = q.copy(), np.random.default_rng(1).normal(size=q.shape).astype(np.float32)
    q[..., 0] = 20
    k[0, :, 0, 0] = [15, 20, 19.9]  # scores 150, 200, 199 with the factor 1 / 2
    made = operations.attention(*map(jnp.asarray, (q, k, v)), implementation)
    scores = np.where(np.tril(np.ones((3, 3))), 10 * k[0, :, 0, 0].astype(np.float64), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(made[0, :, 0], weights @ v[0, :, 0], rtol=1e-4, atol=1e-5)


def test_cached_attention_of_large_scores():
    q, k = np.full((1, 1, 2, 4), 20, np.float32), np.zeros((1, 3, 1, 4), np.float32)
    k[0, :, 0, 0] = [15, 20, 99]
    v = np.random.default_rng(1).normal(size=k.shape).astype(np.float32)
    made = operations.cached_attention(
        jnp.asarray(q),
        jnp.asarray(k[:, :, 0].swapaxes(1, 2)),
        jnp.asarray(v[:, :, 0]),
        jnp.array([[[True, True, False]]]),
    )
    for head in range(2):
        np.testing.assert_allclose(made[0, 0, head], v[0, 1, 0], rtol=1e-5)


def test_the_loss_of_large_logits():
    x_TxD, head_VxD = jnp.array([[10.0], [-10.0]]), jnp.array([[0.0], [15.0], [20.0]])
    made = loss_lib.token_nll(x_TxD, head_VxD, jnp.array([1, 2]))
    np.testing.assert_allclose(made, [50, 200], rtol=1e-6)


@pytest.mark.parametrize("family", ["soup", "hypernetwork"])
@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_the_spread_of_coefficients_is_that_of_the_setting(family, spread):
    """The first is 1; the others' sizes sum to about `spread`: sd * sqrt(2 / pi) * (h - 1)."""
    h, c = 33, 16
    config = bank.Config(MODEL, family, c, h, 4, (0, 1), features=c, hidden=256, spread=spread)
    mixer = tensors.init(bank.declare(config), jax.random.key(0))["mixer"]
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, c)) if family == "hypernetwork" else np.eye(c)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    found = np.asarray(bank.coefficients(mixer, jnp.float32(features), config))
    np.testing.assert_array_equal(found[..., 0], 1)
    deviation = spread / (h - 1) / math.sqrt(2 / math.pi)
    assert found[..., 1:].std() == pytest.approx(deviation, rel=0.25)
    assert np.asarray(mixer["hidden"]).std() == pytest.approx(math.sqrt(c), rel=0.1)


def test_the_spread_of_a_projected_network():
    config = bank.Config(MODEL, "projected", 4, 5, 6, (0, 1), spread=0.7)
    mixer = tensors.init(bank.declare(config), jax.random.key(0))["mixer"]
    found = np.asarray(bank.coefficients(mixer, jnp.eye(4), config))
    np.testing.assert_allclose(found[..., 0], 1)
    np.testing.assert_allclose(np.abs(found[..., 1:]).sum(-1), 0.7, rtol=1e-6)
    assert len(np.unique(found.reshape(4, -1), axis=0)) == 4  # each expert its own


def gathered(dtype, value):
    """A whole array gathered from two devices, and its gradient from a sum of squares."""
    mesh = jax.make_mesh((2,), (FSDP,), (AxisType.Auto,), devices=jax.devices()[:2])
    place, split = Placement(fsdp=2), PartitionSpec(FSDP)

    def local(part):
        whole, back = jax.vjp(lambda p: place.gather({"w": p}, {"w": ("embed",)}, dtype)["w"], part)
        return whole[None], back(jnp.arange(1.0, 5.0))[0]

    run = jax.shard_map(local, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    return jax.jit(run)(value)


def test_what_is_gathered_has_the_dtype_of_the_arithmetic():
    value = jnp.array([1 + 2**-10, 1 + 2**-6, 3.0, -(1 + 2**-11)], jnp.float32)
    for dtype, want in (("bfloat16", [1, 1 + 2**-6, 3, -1]), ("float32", value)):
        whole, grad = gathered(dtype, value)
        assert whole.dtype == "float32"
        np.testing.assert_array_equal(whole, [want, want])
        np.testing.assert_array_equal(grad, 2 * np.arange(1.0, 5.0))  # summed, in float32


def test_the_share_of_tokens_of_a_device():
    mesh = jax.make_mesh((2,), ("model",), (AxisType.Auto,), devices=jax.devices()[:2])
    run = jax.shard_map(
        Placement(model=2).token_share,
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec("model"),
        check_vma=False,
    )
    np.testing.assert_array_equal(jax.jit(run)(jnp.arange(6)), np.arange(6))


def test_rotary_positions_by_hand():
    """The pair (x0, x2) of position 3 is turned by 3 / factor, the pair (x1, x3) by base^-1/2."""
    config = transformer.Config(
        vocab_size=3,
        context=8,
        num_layers=1,
        d_model=4,
        num_heads=1,
        d_ff=2,
        positions="rope",
        rope_base=100.0,
        rope_factor=2.0,
    )
    made = rope(jnp.array([[[[1.0, 2.0, 0.0, 0.0]]]]), 3, config)[0, 0, 0]
    fast, slow = 3 / 2, 3 / 2 * 100**-0.5
    want = [math.cos(fast), 2 * math.cos(slow), math.sin(fast), 2 * math.sin(slow)]
    np.testing.assert_allclose(made, want, rtol=1e-6)


def test_lora_adds_alpha_over_rank_of_the_product():
    params = transformer.init(MODEL, jax.random.key(0))
    adapters = lora.Config(2, 6.0, ("up",))
    declared = lora.declare(MODEL, adapters)
    made = tensors.map_tensors(lambda tensor: jnp.ones(tensor.shape), declared)
    merged = lora.merge(params, made, MODEL, adapters)
    change = merged["layers"]["mlp"]["up"] - params["layers"]["mlp"]["up"]
    np.testing.assert_allclose(change, 6.0 / 2 * 2, rtol=1e-5)  # A B of ones: the rank


@pytest.mark.parametrize(
    "capability,length,size,dtype,causal,wanted",
    [
        ("9.0", 1024, 64, "bfloat16", True, "cudnn"),
        ("8.0", 128, 128, "bfloat16", True, "cudnn"),
        ("7.5", 1024, 64, "bfloat16", True, "fused"),
        ("gfx90a", 1024, 64, "bfloat16", True, "fused"),
        ("9.0", 1000, 64, "bfloat16", True, "fused"),
        ("9.0", 1024, 256, "bfloat16", True, "fused"),
        ("9.0", 1024, 64, "float32", True, "fused"),
        ("9.0", 1024, 64, "bfloat16", False, "fused"),
    ],
)
def test_which_attention_a_gpu_takes(monkeypatch, capability, length, size, dtype, causal, wanted):
    monkeypatch.setattr(operations, "platform", lambda: "gpu")
    device = types.SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(operations.jax, "devices", lambda: [device])
    assert operations._best_attention(length, size, causal, dtype) == wanted
