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
from jax.ad_checkpoint import checkpoint_name

from specialm.models import loss as loss_lib
from specialm.models import tensors
from specialm.models.operations import attention, linear
from specialm.models.placement import PRODUCT, WHOLE, Placement, kept
from specialm.models.target import platform
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
    # none | dots | full: what the backward pass computes again of a layer: nothing, all but matrix
    # products, all.
    remat: str = "none"
    # auto | blocked (fastest on a CPU) | splash (a kernel for TPUs) | fused (any)
    attention: str = "auto"


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
        norm1_scale=stacked((d,), (None,), ones),
        norm1_bias=stacked((d,), (None,), zeros),
        qkv=stacked((d, 3, h, k), ("embed", None, "heads", None), weight),
        qkv_bias=stacked((3, h, k), (None, "heads", None), zeros),
        out=stacked((h, k, d), ("heads", None, "embed"), residual),
        out_bias=stacked((d,), (None,), zeros),
        norm2_scale=stacked((d,), (None,), ones),
        norm2_bias=stacked((d,), (None,), zeros),
        up=stacked((d, f), ("embed", "mlp"), weight),
        up_bias=stacked((f,), ("mlp",), zeros),
        down=stacked((f, d), ("mlp", "embed"), residual),
        down_bias=stacked((d,), (None,), zeros),
    )
    return Params(
        embedding=Tensor((config.vocab_size, d), ("vocab", "embed"), weight),
        position=Tensor((config.context, d), ("position", "embed"), weight),
        layers=layers,
        norm_scale=Tensor((d,), (None,), ones),
        norm_bias=Tensor((d,), (None,), zeros),
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


def _block_output(
    x: jax.Array, weight: jax.Array, bias_D: jax.Array, place: Placement
) -> jax.Array:
    """x weight + bias; the device's parts are summed before the bias is added."""
    if place.model == 1:
        return linear(x, weight, bias_D)
    return place.leave(linear(x, weight, jnp.zeros_like(bias_D))) + bias_D.astype(x.dtype)


def _attention_block(
    x_NxD: jax.Array, w: Layers, length: int, config: Config, place: Placement
) -> jax.Array:
    norm_NxD = place.enter(layer_norm(x_NxD, w.norm1_scale, w.norm1_bias))
    qkv_Nx3xHxK = checkpoint_name(linear(norm_NxD, w.qkv, w.qkv_bias), PRODUCT)
    q_BxLxHxK, k_BxLxHxK, v_BxLxHxK = (
        qkv_Nx3xHxK[:, part].reshape(-1, length, *qkv_Nx3xHxK.shape[2:]) for part in range(3)
    )
    mixed_BxLxHxK = attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK, config.attention)
    mixed_NxHxK = mixed_BxLxHxK.reshape(-1, *mixed_BxLxHxK.shape[2:])
    return x_NxD + checkpoint_name(_block_output(mixed_NxHxK, w.out, w.out_bias, place), PRODUCT)


def _mlp_block(x_NxD: jax.Array, w: Layers, place: Placement) -> jax.Array:
    norm_NxD = place.enter(layer_norm(x_NxD, w.norm2_scale, w.norm2_bias))
    up_NxF = checkpoint_name(linear(norm_NxD, w.up, w.up_bias), PRODUCT)
    up_NxF = jax.nn.gelu(up_NxF, approximate=True)
    return x_NxD + _block_output(up_NxF, w.down, w.down_bias, place)


def whole_ends(params: Params, config: Config, place: Placement) -> Params:
    """The parameters with embedding and positions gathered; the layers as they are."""
    axes = logical_axes(config)
    ends = place.gather(
        {"embedding": params.embedding, "position": params.position},
        {"embedding": axes.embedding, "position": axes.position},
        config.dtype,
    )
    return params.replace(**ends)


def _layer_axes(config: Config, place: Placement) -> Layers:
    """Logical axes of one layer's tensors; none where a tensor is whole already."""
    stacked = logical_axes(config).layers
    return Layers(
        **{
            name: () if name in place.whole else getattr(stacked, name)[1:]
            for name in Layers.__dataclass_fields__
        }
    )


def hidden(
    params: Params, inputs_BxL: jax.Array, config: Config, place: Placement = WHOLE
) -> jax.Array:
    """The final, normed hidden state of each token, [B, L, D] in `config.dtype`.

    Args:
      place: how the layers lie, inside of a `jax.shard_map`; embedding and positions are whole
        (`whole_ends`).
    """
    batch, length = inputs_BxL.shape
    x_BxLxD = params.embedding[inputs_BxL] + params.position[:length]
    x_NxD = x_BxLxD.astype(config.dtype).reshape(batch * length, config.d_model)
    axes = _layer_axes(config, place)

    def layer(x_NxD, w: Layers):
        w = place.gather(w, axes, config.dtype)
        return _mlp_block(_attention_block(x_NxD, w, length, config, place), w, place), None

    if config.remat != "none" or place.fsdp > 1:
        layer = jax.checkpoint(layer, prevent_cse=False, policy=kept(config.remat))
    few = platform() == "cpu" and config.num_layers <= UNROLLED_LAYERS
    x_NxD, _ = jax.lax.scan(layer, x_NxD, params.layers, unroll=config.num_layers if few else 1)
    x_NxD = layer_norm(x_NxD, params.norm_scale, params.norm_bias)
    return x_NxD.reshape(batch, length, config.d_model)


def states(
    params: Params, inputs_BxL: jax.Array, config: Config, place: Placement
) -> tuple[jax.Array, jax.Array]:
    """([N, D], [V, D]): the final states of this device's share of the tokens, and the head that
    they meet; inside of a `jax.shard_map`."""
    params = whole_ends(params, config, place)
    x_BxLxD = hidden(params, inputs_BxL, config, place)
    x_NxD = place.share(place.enter(x_BxLxD.reshape(-1, config.d_model)))
    return x_NxD, place.enter(params.embedding)


def logits(params: Params, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """float32 [B, L, V]: the scores of the token that follows each position."""
    x_BxLxD = hidden(params, inputs_BxL, config)
    return jnp.einsum(
        "BLD,VD->BLV",
        x_BxLxD,
        params.embedding.astype(x_BxLxD.dtype),
        preferred_element_type=jnp.float32,
    )


def token_nll(
    params: Params,
    inputs_BxL: jax.Array,
    targets_BxL: jax.Array,
    config: Config,
    place: Placement = WHOLE,
) -> jax.Array:
    """float32 [B, L]: -log p(target) of each token, in nats."""
    params = whole_ends(params, config, place)
    x_BxLxD = hidden(params, inputs_BxL, config, place)
    nll_N = loss_lib.token_nll(
        x_BxLxD.reshape(-1, config.d_model), params.embedding, targets_BxL.reshape(-1)
    )
    return nll_N.reshape(targets_BxL.shape)


def sum_nll(
    params: Params,
    inputs_BxL: jax.Array,
    targets_BxL: jax.Array,
    mask_BxL: jax.Array,
    config: Config,
    place: Placement = WHOLE,
) -> jax.Array:
    """Sum of mask * nats over all tokens; differentiable, the logits are never whole.

    Args:
      place: how the parameters lie, inside of a `jax.shard_map`. Along `model` the sum is over
        this device's part of the tokens.
    """
    x_NxD, head_VxD = states(params, inputs_BxL, config, place)
    return loss_lib.sum_nll(
        x_NxD, head_VxD, *(place.share(a.reshape(-1)) for a in (targets_BxL, mask_BxL))
    )


def loss(
    params: Params,
    inputs_BxL: jax.Array,
    targets_BxL: jax.Array,
    mask_BxL: jax.Array,
    config: Config,
) -> jax.Array:
    """Mean nats over the tokens where the mask is 1 (0 when there is none); differentiable."""
    total = sum_nll(params, inputs_BxL, targets_BxL, mask_BxL, config)
    return total / jnp.maximum(jnp.sum(mask_BxL), 1.0)
