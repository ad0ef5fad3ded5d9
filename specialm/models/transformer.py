"""The decoder transformer, GPT-2's architecture: pure functions over a pytree of parameters.

Learned positions, LayerNorm before each block, tanh GELU, biases everywhere, tied head. The layers
are stacked on a leading axis and run by `lax.scan`. Parameters are float32; matrix products run in
`Config.dtype`; softmax, norms and the loss are float32.

Letters: Y layers, B batch, L tokens of a window, D d_model, H heads, K size of a head (D / H),
F d_ff, V vocabulary, C context (longest window).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp

NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Config:
    """Sizes of a transformer. Hashable, so that it can be a static argument of `jax.jit`."""

    vocab_size: int
    context: int  # longest window: the number of learned positions
    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    dtype: str = "float32"  # of matrix products: float32 | bfloat16
    remat: str = "none"  # none | full: recompute each layer in the backward pass


@flax.struct.dataclass
class Layers:
    """The layers' tensors, each with a leading axis Y."""

    norm1_scale: jax.Array
    norm1_bias: jax.Array
    qkv: jax.Array
    qkv_bias: jax.Array
    out: jax.Array
    out_bias: jax.Array
    norm2_scale: jax.Array
    norm2_bias: jax.Array
    up: jax.Array
    up_bias: jax.Array
    down: jax.Array
    down_bias: jax.Array


@flax.struct.dataclass
class Params:
    embedding: jax.Array
    position: jax.Array
    layers: Layers
    norm_scale: jax.Array
    norm_bias: jax.Array


@dataclass(frozen=True)
class Tensor:
    """The one declaration of a parameter: abstract values, axes and initial values follow."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]  # logical names; None is never sharded
    init: Callable  # (key, shape) -> float32 array


def _zeros(_, shape):
    return jnp.zeros(shape, jnp.float32)


def _ones(_, shape):
    return jnp.ones(shape, jnp.float32)


def _normal(deviation: float) -> Callable:
    return lambda key, shape: deviation * jax.random.normal(key, shape, jnp.float32)


def declare(config: Config) -> Params:
    """A tree of `Tensor`: every parameter's shape, logical axes and initialiser.

    Initial values as in GPT-2: normal with deviation 0.02, the outputs of the 2 Y residual blocks
    smaller by sqrt(2 Y), so that the residual stream's variance does not grow with depth.
    """
    y, d, f = config.num_layers, config.d_model, config.d_ff
    h, k = config.num_heads, config.d_model // config.num_heads
    weight, residual = _normal(0.02), _normal(0.02 / math.sqrt(2 * y))

    def stacked(shape, axes, init):
        return Tensor((y, *shape), ("layers", *axes), init)

    layers = Layers(
        norm1_scale=stacked((d,), ("embed",), _ones),
        norm1_bias=stacked((d,), ("embed",), _zeros),
        qkv=stacked((d, 3, h, k), ("embed", None, "heads", None), weight),
        qkv_bias=stacked((3, h, k), (None, "heads", None), _zeros),
        out=stacked((h, k, d), ("heads", None, "embed"), residual),
        out_bias=stacked((d,), ("embed",), _zeros),
        norm2_scale=stacked((d,), ("embed",), _ones),
        norm2_bias=stacked((d,), ("embed",), _zeros),
        up=stacked((d, f), ("embed", "mlp"), weight),
        up_bias=stacked((f,), ("mlp",), _zeros),
        down=stacked((f, d), ("mlp", "embed"), residual),
        down_bias=stacked((d,), ("embed",), _zeros),
    )
    return Params(
        embedding=Tensor((config.vocab_size, d), ("vocab", "embed"), weight),
        position=Tensor((config.context, d), ("position", "embed"), weight),
        layers=layers,
        norm_scale=Tensor((d,), ("embed",), _ones),
        norm_bias=Tensor((d,), ("embed",), _zeros),
    )


def _map(function: Callable, config: Config) -> Params:
    return jax.tree.map(function, declare(config), is_leaf=lambda node: isinstance(node, Tensor))


def abstract(config: Config) -> Params:
    """Shapes and dtypes of the parameters; nothing is allocated."""
    return _map(lambda tensor: jax.ShapeDtypeStruct(tensor.shape, jnp.float32), config)


def logical_axes(config: Config) -> Params:
    """For each parameter the tuple of its axes' names: "layers", "vocab", "embed", "mlp",
    "heads", "position" or None."""
    return _map(lambda tensor: tensor.axes, config)


def init(config: Config, key: jax.Array) -> Params:
    """Initial parameters, float32, a pure function of the key."""
    tensors, tree = jax.tree.flatten(_map(lambda tensor: tensor, config))
    keys = jax.random.split(key, len(tensors))
    return jax.tree.unflatten(
        tree, [tensor.init(k, tensor.shape) for tensor, k in zip(tensors, keys, strict=True)])


def num_params(config: Config) -> int:
    """Number of scalars of all parameters; the tied head is counted once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract(config)))


def flops_per_token(config: Config, train: bool) -> int:
    """Floating-point operations of the matrix products per token of a full window.

    Forward: Y (8 D^2 + 4 D F + 4 L D) + 2 D V with L = context; a multiply-add counts as two.
    Causal attention is counted in full (4 L D a layer, half of which is masked away), as is usual
    for MFU. Training counts three times the forward pass, without recomputation.
    """
    y, d, f = config.num_layers, config.d_model, config.d_ff
    layer = 8 * d * d + 4 * d * f + 4 * config.context * d
    forward = y * layer + 2 * d * config.vocab_size
    return 3 * forward if train else forward


def layer_norm(x, scale_D: jax.Array, bias_D: jax.Array) -> jax.Array:
    """LayerNorm over the last axis, in float32."""
    x = x.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + NORM_EPSILON) * scale_D + bias_D


def _attention_block(x_BxLxD, w: Layers, config: Config):
    dtype = jnp.dtype(config.dtype)
    norm_BxLxD = layer_norm(x_BxLxD, w.norm1_scale, w.norm1_bias).astype(dtype)
    qkv_BxLx3xHxK = jnp.einsum("BLD,DTHK->BLTHK", norm_BxLxD, w.qkv.astype(dtype))
    qkv_BxLx3xHxK += w.qkv_bias.astype(dtype)
    mixed_BxLxHxK = attention(*jnp.moveaxis(qkv_BxLx3xHxK, 2, 0))
    out_BxLxD = jnp.einsum("BLHK,HKD->BLD", mixed_BxLxHxK, w.out.astype(dtype))
    return x_BxLxD + out_BxLxD + w.out_bias.astype(dtype)


def _mlp_block(x_BxLxD, w: Layers, config: Config):
    dtype = jnp.dtype(config.dtype)
    norm_BxLxD = layer_norm(x_BxLxD, w.norm2_scale, w.norm2_bias).astype(dtype)
    up_BxLxF = norm_BxLxD @ w.up.astype(dtype) + w.up_bias.astype(dtype)
    down_BxLxD = jax.nn.gelu(up_BxLxF, approximate=True) @ w.down.astype(dtype)
    return x_BxLxD + down_BxLxD + w.down_bias.astype(dtype)


def hidden(params: Params, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """The final, normed hidden state of each token, [B, L, D] in `config.dtype`."""
    dtype = jnp.dtype(config.dtype)
    length = inputs_BxL.shape[1]
    x_BxLxD = (params.embedding[inputs_BxL] + params.position[:length]).astype(dtype)

    def layer(x_BxLxD, w: Layers):
        return _mlp_block(_attention_block(x_BxLxD, w, config), w, config), None

    if config.remat == "full":
        layer = jax.checkpoint(layer, prevent_cse=False)
    x_BxLxD, _ = jax.lax.scan(layer, x_BxLxD, params.layers)
    return layer_norm(x_BxLxD, params.norm_scale, params.norm_bias).astype(dtype)


def logits(params: Params, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """float32 [B, L, V]: the scores of the token that follows each position."""
    x_BxLxD = hidden(params, inputs_BxL, config)
    return jnp.einsum("BLD,VD->BLV", x_BxLxD, params.embedding.astype(x_BxLxD.dtype),
                      preferred_element_type=jnp.float32)


def token_nll(params: Params, inputs_BxL: jax.Array, targets_BxL: jax.Array,
              config: Config) -> jax.Array:
    """float32 [B, L]: -log p(target) of each token, in nats."""
    logits_BxLxV = logits(params, inputs_BxL, config)
    target_BxL = jnp.take_along_axis(logits_BxLxV, targets_BxL[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits_BxLxV, axis=-1) - target_BxL


def sum_nll(params: Params, inputs_BxL: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array,
            config: Config) -> jax.Array:
    """Sum of nats over the tokens where the mask is 1; differentiable, never holds all logits."""
    x_BxLxD = hidden(params, inputs_BxL, config)
    x_NxD = x_BxLxD.reshape(-1, x_BxLxD.shape[-1])
    return _chunked_nll(x_NxD, params.embedding.astype(x_NxD.dtype), targets_BxL.reshape(-1),
                        mask_BxL.reshape(-1))


def loss(params: Params, inputs_BxL: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array,
         config: Config) -> jax.Array:
    """Mean nats over the tokens where the mask is 1 (0 when there is none); differentiable."""
    return sum_nll(params, inputs_BxL, targets_BxL, mask_BxL, config) / jnp.maximum(
        jnp.sum(mask_BxL), 1.0)


CHUNK = 256


@jax.custom_vjp
def _chunked_nll(x_NxD, head_VxD, targets_N, mask_N):
    return _chunked_forward(x_NxD, head_VxD, targets_N, mask_N)[0]


def _chunked_forward(x_NxD, head_VxD, targets_N, mask_N):
    count, width = x_NxD.shape
    chunk = max(d for d in range(1, min(CHUNK, count) + 1) if count % d == 0)

    def body(total, part):
        x, targets, mask = part
        logits = jnp.dot(x, head_VxD.T, preferred_element_type=jnp.float32)
        peak = jnp.max(logits, axis=-1, keepdims=True)
        exp = jnp.exp(logits - peak)
        norm = jnp.sum(exp, axis=-1, keepdims=True)
        hit = jnp.arange(logits.shape[-1]) == targets[:, None]
        nll = (peak + jnp.log(norm))[:, 0] - jnp.sum(jnp.where(hit, logits, 0), axis=-1)
        grad = ((exp / norm - hit) * mask[:, None]).astype(x.dtype)
        nll_sum, grad_head = total
        return (nll_sum + jnp.sum(nll * mask),
                grad_head + jnp.dot(grad.T, x, preferred_element_type=jnp.float32)), grad @ head_VxD

    zero = (jnp.zeros(()), jnp.zeros(head_VxD.shape, jnp.float32))
    parts = (x_NxD.reshape(-1, chunk, width), targets_N.reshape(-1, chunk),
             mask_N.reshape(-1, chunk))
    (nll, grad_head), grad_x = jax.lax.scan(body, zero, parts)
    return nll, (grad_x.reshape(count, width), grad_head)


def _chunked_backward(saved, g):
    grad_x, grad_head = saved
    return grad_x * g.astype(grad_x.dtype), (grad_head * g).astype(grad_x.dtype), None, None


_chunked_nll.defvjp(_chunked_forward, _chunked_backward)


def attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK):
    """Causal attention, [B, L, H, K]."""
    if jax.default_backend() != "cpu":
        return jax.nn.dot_product_attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, is_causal=True)
    heads = [jnp.swapaxes(t, 1, 2) for t in (q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)]
    return jnp.swapaxes(_causal(*heads), 1, 2)


@jax.custom_vjp
def _causal(q, k, v):
    return _causal_forward(q, k, v)[0]


def _causal_forward(q, k, v):
    length, size = q.shape[-2:]
    q = q * size**-0.5
    scores = jnp.einsum("BHQK,BHLK->BHQL", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e30)
    exp = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    p = (exp / jnp.sum(exp, axis=-1, keepdims=True)).astype(v.dtype)
    out = jnp.einsum("BHQL,BHLK->BHQK", p, v)
    return out, (q, k, v, p, out)


def _causal_backward(saved, g):
    q, k, v, p, out = saved
    dv = jnp.einsum("BHQL,BHQK->BHLK", p, g)
    dp = jnp.einsum("BHQK,BHLK->BHQL", g, v)
    ds = p * (dp - jnp.sum(g * out, axis=-1, keepdims=True))
    dq = jnp.einsum("BHQL,BHLK->BHQK", ds, k) * q.shape[-1]**-0.5
    return dq, jnp.einsum("BHQL,BHQK->BHLK", ds, q), dv


_causal.defvjp(_causal_forward, _causal_backward)
