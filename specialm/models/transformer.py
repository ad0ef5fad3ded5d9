"""The decoder transformer, GPT-2's architecture: pure functions over a pytree of parameters.

Learned positions, LayerNorm before each block, tanh GELU, biases everywhere, tied head. The layers
are stacked on a leading axis and run by `lax.scan`. Parameters are float32; matrix products run in
`Config.dtype`; softmax, norms and the loss are float32.

Letters: Y layers, B batch, L tokens of a window, N tokens of a batch (B L), D d_model, H heads,
K size of a head (D / H), F d_ff, V vocabulary, C context (longest window).
"""

import math
from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp

from specialm.models import loss as loss_lib
from specialm.models import tensors
from specialm.models.operations import attention, linear
from specialm.models.tensors import Tensor, normal, ones, zeros

NORM_EPSILON = 1e-5
# On a CPU, up to this many layers are written out instead of looped over: nothing is copied into
# and out of stacked residuals, and few layers compile as fast as the loop.
UNROLLED_LAYERS = 8


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
    attention: str = "auto"  # auto | blocked (fastest on a CPU) | fused (for accelerators)


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


def declare(config: Config) -> Params:
    """A tree of `Tensor`: every parameter's shape, logical axes and initialiser.

    Initial values as in GPT-2: normal with deviation 0.02, the outputs of the 2 Y residual blocks
    smaller by sqrt(2 Y), so that the residual stream's variance does not grow with depth.
    """
    y, d, f = config.num_layers, config.d_model, config.d_ff
    h, k = config.num_heads, config.d_model // config.num_heads
    weight, residual = normal(0.02), normal(0.02 / math.sqrt(2 * y))

    def stacked(shape, axes, init):
        return Tensor((y, *shape), ("layers", *axes), init)

    layers = Layers(
        norm1_scale=stacked((d,), ("embed",), ones),
        norm1_bias=stacked((d,), ("embed",), zeros),
        qkv=stacked((d, 3, h, k), ("embed", None, "heads", None), weight),
        qkv_bias=stacked((3, h, k), (None, "heads", None), zeros),
        out=stacked((h, k, d), ("heads", None, "embed"), residual),
        out_bias=stacked((d,), ("embed",), zeros),
        norm2_scale=stacked((d,), ("embed",), ones),
        norm2_bias=stacked((d,), ("embed",), zeros),
        up=stacked((d, f), ("embed", "mlp"), weight),
        up_bias=stacked((f,), ("mlp",), zeros),
        down=stacked((f, d), ("mlp", "embed"), residual),
        down_bias=stacked((d,), ("embed",), zeros),
    )
    return Params(
        embedding=Tensor((config.vocab_size, d), ("vocab", "embed"), weight),
        position=Tensor((config.context, d), ("position", "embed"), weight),
        layers=layers,
        norm_scale=Tensor((d,), ("embed",), ones),
        norm_bias=Tensor((d,), ("embed",), zeros),
    )


def abstract(config: Config) -> Params:
    """Shapes and dtypes of the parameters; nothing is allocated."""
    return tensors.abstract(declare(config))


def logical_axes(config: Config) -> Params:
    """For each parameter the tuple of its axes' names: "layers", "vocab", "embed", "mlp",
    "heads", "position" or None."""
    return tensors.logical_axes(declare(config))


def init(config: Config, key: jax.Array) -> Params:
    """Initial parameters, float32, a pure function of the key."""
    return tensors.init(declare(config), key)


def num_params(config: Config) -> int:
    """Number of scalars of all parameters; the tied head is counted once."""
    return tensors.count(declare(config))


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


def layer_norm(x: jax.Array, scale_D: jax.Array, bias_D: jax.Array) -> jax.Array:
    """LayerNorm over the last axis, computed in float32, in the dtype of x."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(variance + NORM_EPSILON) * scale_D + bias_D
    return normed.astype(x.dtype)


def _attention_block(x_NxD: jax.Array, w: Layers, length: int, config: Config) -> jax.Array:
    norm_NxD = layer_norm(x_NxD, w.norm1_scale, w.norm1_bias)
    qkv_Nx3xHxK = linear(norm_NxD, w.qkv, w.qkv_bias)
    q_BxLxHxK, k_BxLxHxK, v_BxLxHxK = (
        qkv_Nx3xHxK[:, part].reshape(-1, length, *qkv_Nx3xHxK.shape[2:]) for part in range(3))
    mixed_BxLxHxK = attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, config.attention)
    return x_NxD + linear(mixed_BxLxHxK.reshape(-1, *mixed_BxLxHxK.shape[2:]), w.out, w.out_bias)


def _mlp_block(x_NxD: jax.Array, w: Layers) -> jax.Array:
    norm_NxD = layer_norm(x_NxD, w.norm2_scale, w.norm2_bias)
    up_NxF = jax.nn.gelu(linear(norm_NxD, w.up, w.up_bias), approximate=True)
    return x_NxD + linear(up_NxF, w.down, w.down_bias)


def hidden(params: Params, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """The final, normed hidden state of each token, [B, L, D] in `config.dtype`."""
    batch, length = inputs_BxL.shape
    x_BxLxD = params.embedding[inputs_BxL] + params.position[:length]
    x_NxD = x_BxLxD.astype(config.dtype).reshape(batch * length, config.d_model)

    def layer(x_NxD, w: Layers):
        return _mlp_block(_attention_block(x_NxD, w, length, config), w), None

    if config.remat == "full":
        layer = jax.checkpoint(layer, prevent_cse=False)
    few = jax.default_backend() == "cpu" and config.num_layers <= UNROLLED_LAYERS
    x_NxD, _ = jax.lax.scan(layer, x_NxD, params.layers, unroll=config.num_layers if few else 1)
    x_NxD = layer_norm(x_NxD, params.norm_scale, params.norm_bias)
    return x_NxD.reshape(batch, length, config.d_model)


def logits(params: Params, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """float32 [B, L, V]: the scores of the token that follows each position."""
    x_BxLxD = hidden(params, inputs_BxL, config)
    return jnp.einsum("BLD,VD->BLV", x_BxLxD, params.embedding.astype(x_BxLxD.dtype),
                      preferred_element_type=jnp.float32)


def token_nll(params: Params, inputs_BxL: jax.Array, targets_BxL: jax.Array,
              config: Config) -> jax.Array:
    """float32 [B, L]: -log p(target) of each token, in nats."""
    x_BxLxD = hidden(params, inputs_BxL, config)
    nll_N = loss_lib.token_nll(x_BxLxD.reshape(-1, config.d_model), params.embedding,
                               targets_BxL.reshape(-1))
    return nll_N.reshape(targets_BxL.shape)


def sum_nll(params: Params, inputs_BxL: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array,
            config: Config) -> jax.Array:
    """Sum of mask * nats over all tokens; differentiable, the logits are never whole."""
    x_BxLxD = hidden(params, inputs_BxL, config)
    return loss_lib.sum_nll(x_BxLxD.reshape(-1, config.d_model), params.embedding,
                            targets_BxL.reshape(-1), mask_BxL.reshape(-1))


def loss(params: Params, inputs_BxL: jax.Array, targets_BxL: jax.Array, mask_BxL: jax.Array,
         config: Config) -> jax.Array:
    """Mean nats over the tokens where the mask is 1 (0 when there is none); differentiable."""
    total = sum_nll(params, inputs_BxL, targets_BxL, mask_BxL, config)
    return total / jnp.maximum(jnp.sum(mask_BxL), 1.0)
