import dataclasses
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gpt2_names import named
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.models import operations, transformer

CONFIG = transformer.Config(
    vocab_size=97, context=24, num_layers=2, d_model=32, num_heads=4, d_ff=48
)
INIT = jax.jit(transformer.init, static_argnums=0)
LOSS = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4)
SUM = jax.jit(jax.value_and_grad(transformer.sum_nll), static_argnums=4)
NLL = jax.jit(transformer.token_nll, static_argnums=3)
LOGITS = jax.jit(transformer.logits, static_argnums=2)


def make_params(config, seed=0):
    """Parameters in which no tensor is at its special initial value (0 or 1)."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32),
        INIT(config, jax.random.key(seed)),
    )


def make_tokens(config, batch, length, seed=0):
    return np.random.default_rng(seed).integers(0, config.vocab_size, (batch, length))


def reference_logits(params, tokens, heads):
    """GPT-2's forward pass in NumPy float64, one window, one layer and one head at a time."""
    p = named(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params))

    def norm(x, scale, bias):
        mean = x.mean(axis=1, keepdims=True)
        return (x - mean) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * scale + bias

    def window_logits(window):
        length, size = len(window), p.embedding.shape[1] // heads
        x = p.embedding[window] + p.position[:length]
        w = p.layers
        for y in range(w.up.shape[0]):
            h = norm(x, w.norm1_scale[y], w.norm1_bias[y])
            for head in range(heads):
                q, k, v = (
                    h @ w.qkv[y, :, part, head] + w.qkv_bias[y, part, head] for part in range(3)
                )
                scores = q @ k.T / math.sqrt(size)
                scores[np.triu_indices(length, 1)] = -np.inf
                weights = np.exp(scores - scores.max(axis=1, keepdims=True))
                weights /= weights.sum(axis=1, keepdims=True)
                x = x + weights @ v @ w.out[y, head]
            x = x + w.out_bias[y]
            up = norm(x, w.norm2_scale[y], w.norm2_bias[y]) @ w.up[y] + w.up_bias[y]
            act = 0.5 * up * (1 + np.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
            x = x + act @ w.down[y] + w.down_bias[y]
        return norm(x, p.norm_scale, p.norm_bias) @ p.embedding.T

    return np.stack([window_logits(window) for window in tokens])


@pytest.mark.parametrize("change", [{}, {"attention": "fused"}, {"num_heads": 1}])
def test_logits_are_those_of_numpy(change):
    config = dataclasses.replace(CONFIG, **change)
    params, tokens = make_params(config), make_tokens(config, 2, 17)
    made = LOGITS(params, tokens, config)
    assert made.dtype == jnp.float32
    np.testing.assert_allclose(
        made, reference_logits(params, tokens, config.num_heads), rtol=2e-5, atol=2e-5
    )


def test_bfloat16_is_close_and_the_loss_is_float32():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    params = INIT(config, jax.random.key(0))
    tokens, mask = make_tokens(config, 4, 24), jnp.ones((4, 24))
    nll, exact = (NLL(params, tokens, tokens, c) for c in (config, CONFIG))
    assert nll.dtype == jnp.float32
    np.testing.assert_allclose(nll, exact, atol=0.02)
    grads, exact_grads = (LOSS(params, tokens, tokens, mask, c)[1] for c in (config, CONFIG))
    for grad, want in zip(jax.tree.leaves(grads), jax.tree.leaves(exact_grads), strict=True):
        assert grad.dtype == jnp.float32
        assert np.linalg.norm(grad - want) < 0.03 * np.linalg.norm(want)


def reference_loss(params, inputs, targets, mask, heads):
    """The mean nats in plain jax.numpy float32, for its gradients by autodiff alone."""

    def norm(x, scale, bias):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    params, length = named(params), inputs.shape[1]
    x = params.embedding[inputs] + params.position[:length]
    for y in range(params.layers.up.shape[0]):
        w = SimpleNamespace(**{name: leaf[y] for name, leaf in vars(params.layers).items()})
        h = norm(x, w.norm1_scale, w.norm1_bias)
        q, k, v = (
            jnp.einsum("bld,dhk->bhlk", h, w.qkv[:, part]) + w.qkv_bias[part][:, None]
            for part in range(3)
        )
        scores = jnp.einsum("bhqk,bhlk->bhql", q, k) / math.sqrt(q.shape[-1])
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
        x = x + jnp.einsum("bhql,bhlk,hkd->bqd", jax.nn.softmax(scores), v, w.out) + w.out_bias
        up = norm(x, w.norm2_scale, w.norm2_bias) @ w.up + w.up_bias
        x = x + jax.nn.gelu(up, approximate=True) @ w.down + w.down_bias
    logits = norm(x, params.norm_scale, params.norm_bias) @ params.embedding.T
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
    return (nll * mask).sum() / mask.sum()


REFERENCE = jax.jit(jax.value_and_grad(reference_loss), static_argnums=4)


@pytest.mark.parametrize(
    "change,unrolled",
    [({}, 8), ({}, 0), ({"remat": "full"}, 0), ({"attention": "fused", "d_ff": 24}, 0)],
)
def test_gradients_are_those_of_the_plain_formula(change, unrolled, monkeypatch):
    monkeypatch.setattr(transformer, "UNROLLED_LAYERS", unrolled)
    config = dataclasses.replace(CONFIG, context=150, **change)
    params = make_params(config)
    inputs, targets = make_tokens(config, 3, 150), make_tokens(config, 3, 150, seed=1)
    mask = (np.random.default_rng(2).random((3, 150)) < 0.8).astype(np.float32)
    loss, grads = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4)(
        params, inputs, targets, mask, config
    )  # a new jit: UNROLLED_LAYERS is no argument
    want, want_grads = REFERENCE(params, inputs, targets, mask, config.num_heads)
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        expected = dict(jax.tree_util.tree_leaves_with_path(want_grads))[path]
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(
            grad, expected, atol=2e-5 * scale + 1e-8, err_msg=jax.tree_util.keystr(path)
        )


def value_and_pull(function, grad, *args):
    made, pull = jax.vjp(function, *args)
    return made, pull(grad)


@given(length=st.integers(1, 140), size=st.sampled_from([1, 3, 16]), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_blocked_attention_is_the_naive_formula(length, size, seed):
    def naive(q, k, v):
        scores = jnp.einsum("pqk,plk->pql", q, k) / math.sqrt(size)
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
        return jnp.einsum("pql,plk->pqk", jax.nn.softmax(scores), v)

    rng = np.random.default_rng(seed)
    q, k, v, grad = (rng.normal(size=(2, length, size)).astype(np.float32) for _ in range(4))
    made, grads = jax.jit(value_and_pull, static_argnums=0)(
        operations.blocked_attention, grad, 3 * q, k, v
    )
    want, want_grads = jax.jit(value_and_pull, static_argnums=0)(naive, grad, 3 * q, k, v)
    np.testing.assert_allclose(made, want, atol=1e-5)
    for ours, theirs in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-5)


@given(
    count=st.integers(1, 20),
    ins=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    outs=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_linear_is_a_matrix_product(count, ins, outs, seed):
    rng = np.random.default_rng(seed)
    x, weight, bias, grad = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((count, *ins), (*ins, *outs), outs, (count, *outs))
    )
    made, grads = jax.jit(value_and_pull, static_argnums=0)(
        operations.linear, grad, x, weight, bias
    )
    x64, grad64 = (a.reshape(count, -1).astype(np.float64) for a in (x, grad))
    weight64 = weight.reshape(math.prod(ins), -1).astype(np.float64)
    np.testing.assert_allclose(
        made.reshape(count, -1), x64 @ weight64 + bias.reshape(-1), atol=1e-5
    )
    for ours, theirs in zip(
        grads, (grad64 @ weight64.T, x64.T @ grad64, grad64.sum(0)), strict=True
    ):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, atol=1e-4)


@pytest.mark.parametrize("attention", ["blocked", "fused"])
@pytest.mark.parametrize("changed", [1, 70, 149])
def test_a_later_token_never_changes_an_earlier_logit(attention, changed):
    config = dataclasses.replace(CONFIG, context=150, attention=attention)
    params, tokens = make_params(config), make_tokens(config, 2, 150)
    other = tokens.copy()
    other[:, changed] = (other[:, changed] + 1) % config.vocab_size
    before, after = (np.asarray(LOGITS(params, t, config)) for t in (tokens, other))
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    assert np.abs(before[:, changed:] - after[:, changed:]).max(axis=-1).min() > 0


def test_a_padded_batch_has_the_loss_and_gradients_of_the_windows_alone():
    params, sizes = make_params(CONFIG), [24, 24, 9]
    inputs, targets = make_tokens(CONFIG, 3, 24), make_tokens(CONFIG, 3, 24, seed=1)
    mask = (np.arange(24) < np.array(sizes)[:, None]).astype(np.float32)
    inputs, targets = np.where(mask, inputs, 0), np.where(mask, targets, 0)
    loss, grads = LOSS(params, inputs, targets, mask, CONFIG)
    total, total_grads = 0.0, jax.tree.map(jnp.zeros_like, params)
    for n, size in enumerate(sizes):
        part = (inputs[n : n + 1, :size], targets[n : n + 1, :size], np.ones((1, size), np.float32))
        nll, grad = SUM(params, *part, CONFIG)
        total, total_grads = total + nll, jax.tree.map(jnp.add, total_grads, grad)
    np.testing.assert_allclose(loss, total / sum(sizes), rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(grads), jax.tree.leaves(total_grads), strict=True):
        np.testing.assert_allclose(ours, theirs / sum(sizes), atol=2e-6)


def test_a_batch_without_a_counted_token_has_loss_and_gradient_zero():
    tokens = make_tokens(CONFIG, 2, 8)
    loss, grads = LOSS(make_params(CONFIG), tokens, tokens, np.zeros((2, 8), np.float32), CONFIG)
    assert loss == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(grads))


def test_declarations_agree_with_the_parameters():
    params = INIT(CONFIG, jax.random.key(0))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    assert shapes == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), transformer.abstract(CONFIG)
    )
    assert transformer.num_params(CONFIG) == sum(leaf.size for leaf in jax.tree.leaves(params))
    # By hand: tables, per layer 4 D^2 + 2 D F and 9 D + F for biases and norms, last norm.
    d, f = 32, 48
    assert transformer.num_params(CONFIG) == (
        (97 + 24) * d + 2 * (4 * d * d + 2 * d * f + 9 * d + f) + 2 * d
    )
    sizes = {"layers": 2, "vocab": 97, "embed": d, "mlp": f, "heads": 4, "position": 24}
    axes = transformer.logical_axes(CONFIG)
    for leaf, names in zip(
        jax.tree.leaves(params),
        jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple)),
        strict=True,
    ):
        assert len(names) == leaf.ndim
        assert all(
            sizes[name] == size
            for name, size in zip(names, leaf.shape, strict=True)
            if name is not None
        )


def test_initial_values_are_those_of_gpt2():
    config = transformer.Config(1000, 256, 2, 128, 4, 512)
    params, again, other = (INIT(config, jax.random.key(n)) for n in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, again))
    params, other = named(params), named(other)
    assert not bool((params.embedding == other.embedding).any())
    for name in ("embedding", "position"):
        assert abs(float(jnp.std(getattr(params, name))) - 0.02) < 0.0005
    for name, deviation in {"qkv": 0.02, "up": 0.02, "out": 0.01, "down": 0.01}.items():
        tensor = getattr(params.layers, name)
        assert abs(float(jnp.std(tensor)) - deviation) < 0.02 * deviation
        assert abs(float(jnp.mean(tensor))) < 0.02 * deviation
    for name in ("norm1", "norm2"):
        assert (getattr(params.layers, f"{name}_scale") == 1).all()
        assert (getattr(params.layers, f"{name}_bias") == 0).all()
    tokens = make_tokens(config, 4, 64)
    nll = NLL(again, tokens, make_tokens(config, 4, 64, seed=1), config)
    assert abs(float(nll.mean()) - math.log(1000)) < 0.05


def test_flops_are_those_that_xla_counts():
    """One fused-attention layer (a loop's body would be counted once, blocks not in full)."""
    config = transformer.Config(512, 128, 1, 256, 4, 1024, attention="fused")
    tokens = jax.ShapeDtypeStruct((2, 128), jnp.int32)
    compiled = (
        jax.jit(transformer.logits, static_argnums=2)
        .lower(transformer.abstract(config), tokens, config)
        .compile()
    )
    counted = compiled.cost_analysis()["flops"] / (2 * 128)
    assert abs(transformer.flops_per_token(config, train=False) / counted - 1) < 0.05
    assert transformer.flops_per_token(config, True) == 3 * transformer.flops_per_token(
        config, False
    )
