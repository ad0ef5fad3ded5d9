"""Self-attention: grouped queries, rotary positions, normed queries and keys, windows, a cache.

J groups of G query heads share one head of keys and values each, H = J G; J = H is plain multi-head
attention (Ainslie et al., arXiv 2305.13245). Queries, keys and values are one tensor, so that they
are one matrix product; along `model` its J groups are divided.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from specialm.models import operations
from specialm.models.config import Config
from specialm.models.operations import linear
from specialm.models.parts import Weights, biases, block_output
from specialm.models.parts import norms as norms_lib
from specialm.models.parts.positions import POSITIONS
from specialm.models.placement import PRODUCT, WHOLE, Placement
from specialm.models.tensors import Tensor, matrix, normal, zeros

HEAD_NORMS = ("q_norm", "k_norm")


class Cache(NamedTuple):
    """Keys and values of one layer, in columns that all rows share. Z is rows times heads, B J."""

    k_ZxAxz: jax.Array
    v_ZxzxA: jax.Array


class Places(NamedTuple):
    """Where new tokens stand: in their texts, and in the cache."""

    held_B: jax.Array  # int32, tokens of each row's text that the cache has already
    column: Any  # int, or int32 []: the first that the new tokens are written to
    seen_BxLxz: jax.Array  # bool, the columns that each new token sees


def declare(config: Config) -> dict:
    """A tree of `Tensor`; query head n is the n mod G-th of group n // G."""
    d, h, j, k = config.d_model, config.num_heads, config.kv_heads, config.size_of_head
    parts, heads = h // j + 2, "heads" if h == j else "kv_heads"
    residual = normal(0.02 / math.sqrt(2 * config.num_layers))
    queries = parts - 2
    pieces = (("q", 0, queries), ("k", queries, queries + 1), ("v", queries + 1, parts))
    norms = {name: norms_lib.of_heads(config).declare(k) for name in HEAD_NORMS}
    return {
        "qkv": matrix((d, parts, j, k), ("embed", None, heads, None), normal(0.02), pieces=pieces),
        **biases(config, qkv_bias=Tensor((parts, j, k), (None, heads, None), zeros)),
        "out": matrix((h, k, d), ("heads", None, "embed"), residual, inputs=2),
        **biases(config, out_bias=Tensor((d,), (None,), zeros)),
        **(norms if config.qk_norm else {}),
    }


def flops(config: Config) -> int:
    """Of matrix products, forward, per token of a full window; causal scores count in full."""
    heads, size = config.num_heads, config.size_of_head
    projections = 2 * config.d_model * size * (2 * heads + 2 * config.kv_heads)
    return projections + 4 * config.context * heads * size


def local_layers(config: Config) -> np.ndarray | None:
    """bool [Y]: the layers whose tokens see `sliding_window` tokens only; None if all see all."""
    if not config.sliding_window:
        return None
    number_Y = np.arange(1, config.num_layers + 1)
    return number_Y % config.global_every != 0 if config.global_every else number_Y > 0


def _window(config: Config, tokens: int, is_local) -> jax.Array | None:
    """int32 []: how many tokens each sees of so many; None for all."""
    if is_local is None or tokens <= config.sliding_window:
        return None
    return jnp.where(is_local, config.sliding_window, tokens)


def project(
    weights: Weights,
    x_TxD: jax.Array,
    length: int,
    first,
    config: Config,
    place: Placement,
    is_local,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries [B, L, H, A], keys and values [B, L, J, A] of tokens from position `first` on."""
    qkv = checkpoint_name(linear(x_TxD, weights["qkv"], weights.get("qkv_bias")), PRODUCT)
    groups = qkv.shape[1] - 2

    def windows(part: jax.Array) -> jax.Array:
        return part.reshape(-1, length, math.prod(part.shape[1:-1]), part.shape[-1])

    q = windows(qkv[:, :groups].swapaxes(1, 2) if groups > 1 else qkv[:, 0])
    k, v = windows(qkv[:, groups]), windows(qkv[:, groups + 1])
    if config.qk_norm:
        # All heads share these scales, also those on other devices: their gradients are summed.
        scales = {name: place.to_model_parallel(weights[name]["scale"]) for name in HEAD_NORMS}
        norm, epsilon = norms_lib.of_heads(config).apply, config.norm_epsilon
        q = norm({"scale": scales["q_norm"]}, q, epsilon)
        k = norm({"scale": scales["k_norm"]}, k, epsilon)
    rotate = POSITIONS[config.positions].rotate
    q, k = (rotate(x, first, config, is_local) for x in (q, k))
    if config.query_scalar:  # scores are divided by the root of a head's size later on
        q *= math.sqrt(config.size_of_head / config.query_scalar)
    return q, k, v


def _output(weights: Weights, mixed_BxLxHxA: jax.Array, place: Placement) -> jax.Array:
    mixed_TxHxA = mixed_BxLxHxA.reshape(-1, *mixed_BxLxHxA.shape[2:])
    out = block_output(mixed_TxHxA, weights["out"], weights.get("out_bias"), place)
    return checkpoint_name(out, PRODUCT)


def apply(
    weights: Weights,
    x_TxD: jax.Array,
    length: int,
    config: Config,
    place: Placement,
    mask_BxL: jax.Array | None = None,
    is_local=None,
) -> jax.Array:
    """[T, D]: what each token takes from its window.

    Args:
      length: tokens of a window, of which N / length lie one after the other.
      mask_BxL: of attention that is not causal: 1 for the tokens that are there; None for all.
      is_local: bool [], of `local_layers`; None: no layer is local.
    """
    q, k, v = project(weights, x_TxD, length, 0, config, place, is_local)
    window = _window(config, length, is_local)
    mixed = operations.attention(q, k, v, config.attention, config.causal, mask_BxL, window)
    return _output(weights, mixed, place)


def decode(
    weights: Weights,
    x_TxD: jax.Array,
    length: int,
    cache: Cache,
    places: Places,
    config: Config,
    is_local=None,
) -> tuple[jax.Array, Cache]:
    """As `apply`, for `length` more tokens of each row of a cache."""
    q, k, v = project(weights, x_TxD, length, places.held_B, config, WHOLE, is_local)
    heads, size = cache.k_ZxAxz.shape[0], config.size_of_head
    k_ZxAxL = k.transpose(0, 2, 3, 1).reshape(heads, size, length)
    v_ZxLxA = v.swapaxes(1, 2).reshape(heads, length, size)
    cache = Cache(
        *(
            jax.lax.dynamic_update_slice_in_dim(old, new.astype(old.dtype), places.column, axis)
            for old, new, axis in zip(cache, (k_ZxAxL, v_ZxLxA), (2, 1), strict=True)
        )
    )
    # Once, in place: XLA would write it again for every use.
    cache = Cache(*jax.lax.optimization_barrier(tuple(cache)))
    columns, seen_BxLxz = cache.k_ZxAxz.shape[-1], places.seen_BxLxz
    window = _window(config, columns, is_local)
    if window is not None:
        seen_BxLxz &= operations.seen(places.column + jnp.arange(length), columns, window)
    return _output(weights, operations.cached_attention(q, *cache, seen_BxLxz), WHOLE), cache
