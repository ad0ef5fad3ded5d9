"""The transformer's operations with hand-written gradients.

They compute the plain formulas, exactly; what is gained is time on a CPU: less is saved for the
backward pass, and the matrix products come in the order that XLA's CPU libraries multiply fastest.
"""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from specialm.models.target import platform

MASKED = -1e30  # a score that gets no weight
QUERY_BLOCK = 64  # queries that are worth a block of their own


def _dot(a, b, axes_a: tuple, axes_b: tuple, batch: tuple = (), dtype=None) -> jax.Array:
    """Sums over `axes_a` of a and `axes_b` of b; `batch` axes come first in all three."""
    if dtype is not None and platform() == "cpu":
        a, b = a.astype(dtype), b.astype(dtype)  # it has no kernel for bfloat16 to float32
    return jax.lax.dot_general(
        a, b, ((axes_a, axes_b), (batch, batch)), preferred_element_type=dtype
    )


def _in_this_order(product: jax.Array) -> jax.Array:
    """Keeps XLA from moving a transposition of `product` into its operands, which undoes the
    order that was chosen for speed.
    """
    return jax.lax.optimization_barrier(product)


def outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """float32 sum over tokens of a_n b_n^T: [T, ins...], [T, outs...] -> [ins..., outs...].

    The narrower operand goes first: the other order takes the CPU twice as long.
    """
    if a.size <= b.size:
        return _in_this_order(_dot(a, b, (0,), (0,), dtype=jnp.float32))
    product = _in_this_order(_dot(b, a, (0,), (0,), dtype=jnp.float32))
    return product.transpose(*range(b.ndim - 1, product.ndim), *range(b.ndim - 1))


@partial(jax.tree_util.register_dataclass, data_fields=["rows"], meta_fields=["outs"])
@dataclass(frozen=True)
class Transposed:
    """A linear map laid out for few tokens at a time, as `linear` takes it: [outs, ins].

    For 1 to 16 tokens a CPU reads it at up to twice the speed of [ins, outs], for more at the same.
    """

    rows: jax.Array  # [outs, ins], each of all axes together
    outs: tuple[int, ...]  # the axes of the outputs

    @classmethod
    def of(cls, weight, inputs: int) -> "Transposed":
        """An array [ins..., outs...] in this layout; `inputs` is how many axes are ins."""
        ins, outs = weight.shape[:inputs], weight.shape[inputs:]
        return cls(weight.reshape(math.prod(ins), -1).T, outs)

    def product(self, x: jax.Array) -> jax.Array:
        """[T, ins...] -> [T, outs...]"""
        x_TxI = x.reshape(x.shape[0], -1)
        return _dot(self.rows.astype(x.dtype), x_TxI, (1,), (1,)).T.reshape(-1, *self.outs)


def linear(x: jax.Array, weight: jax.Array | Transposed, bias: jax.Array | None) -> jax.Array:
    """x weight + bias in the dtype of x: [T, ins...], [ins..., outs...], [outs...] ->
    [T, outs...].

    The parameters' gradients are float32 sums; a `Transposed` has none. A bias of None is none.
    """
    if isinstance(weight, Transposed):
        product = weight.product(x)
        return product if bias is None else product + bias.astype(x.dtype)
    return _linear(x, weight, bias)


@jax.custom_vjp
def _linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    axes = x.ndim - 1
    product = _dot(x, weight.astype(x.dtype), tuple(range(1, x.ndim)), tuple(range(axes)))
    return product if bias is None else product + bias.astype(x.dtype)


def _linear_forward(x, weight, bias):
    return _linear(x, weight, bias), (x, weight, None if bias is None else ())


def _linear_backward(saved, grad):
    x, weight, has_bias = saved  # None without one: said by the structure
    axes = x.ndim - 1
    grad_x = _dot(
        grad, weight.astype(grad.dtype), tuple(range(1, grad.ndim)), tuple(range(axes, weight.ndim))
    )
    grad_bias = None if has_bias is None else jnp.sum(grad, axis=0, dtype=jnp.float32)
    return grad_x, outer(x, grad), grad_bias


_linear.defvjp(_linear_forward, _linear_backward)


def attention(
    q_BxLxHxA: jax.Array,
    k_BxLxJxA: jax.Array,
    v_BxLxJxA: jax.Array,
    implementation: str,
    causal: bool = True,
    mask_BxL: jax.Array | None = None,
    window: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention with scores q k / sqrt(K) -> [B, L, H, A].

    Args:
      k_BxLxJxA, v_BxLxJxA: of J heads, each for H / J neighbouring heads of queries.
      implementation: "fused" is `jax.nn.dot_product_attention`, "blocked" is
        `blocked_attention`, the fastest on a CPU, "splash" a kernel for TPUs (see `splash.py`),
        "cudnn" one for NVIDIA GPUs, which takes bfloat16; "auto" chooses by platform and sizes.
      causal: whether a token sees only those up to itself.
      mask_BxL: without causal: 1 for the keys that are there; None for all.
      window: int32 [], of causal attention: how many tokens each sees, itself the last of them;
        None for all. "splash" and "cudnn" have none.
    """
    batch, length, heads, size = q_BxLxHxA.shape
    if implementation == "auto":
        plain, dtype = causal and window is None, q_BxLxHxA.dtype
        implementation = _best_attention(length, size, plain, str(dtype))
    if implementation == "fused":
        mask = None if causal or mask_BxL is None else (mask_BxL > 0)[:, None, None]
        mask = mask if window is None else seen(jnp.arange(length), length, window)[None, None]
        return jax.nn.dot_product_attention(
            q_BxLxHxA, k_BxLxJxA, v_BxLxJxA, mask=mask, is_causal=causal
        )
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(
            q_BxLxHxA, k_BxLxJxA, v_BxLxJxA, is_causal=causal, implementation="cudnn"
        )
    k_BxLxHxA, v_BxLxHxA = (_repeated(x, heads) for x in (k_BxLxJxA, v_BxLxJxA))
    if implementation == "splash":
        from specialm.models import splash

        return splash.attention(q_BxLxHxA, k_BxLxHxA, v_BxLxHxA)

    def by_head(x_BxLxHxA):
        return x_BxLxHxA.swapaxes(1, 2).reshape(batch * heads, length, size)

    seen_ZxL = None if causal or mask_BxL is None else jnp.repeat(mask_BxL > 0, heads, axis=0)
    mixed_ZxLxA = blocked_attention(
        by_head(q_BxLxHxA), by_head(k_BxLxHxA), by_head(v_BxLxHxA), seen_ZxL, window, causal
    )
    return mixed_ZxLxA.reshape(batch, heads, length, size).swapaxes(1, 2)


def seen(places_Q: jax.Array, keys: int, window: jax.Array | None) -> jax.Array:
    """bool [Q, z]: the keys that causal queries at these places see.

    Args:
      window: see `attention`.
    """
    distance_Qxz = places_Q[:, None] - jnp.arange(keys)
    causal_Qxz = distance_Qxz >= 0
    return causal_Qxz if window is None else causal_Qxz & (distance_Qxz < window)


def _repeated(x_BxLxJxA: jax.Array, heads: int) -> jax.Array:
    """Each head as often as it is used: [B, L, H, A]."""
    copies = heads // x_BxLxJxA.shape[2]
    return x_BxLxJxA if copies == 1 else jnp.repeat(x_BxLxJxA, copies, axis=2)


def _best_attention(length: int, size: int, causal: bool, dtype: str) -> str:
    if platform() == "cpu":
        return "blocked"
    if platform() == "gpu" and causal and dtype == "bfloat16" and _cudnn_fits(length, size):
        return "cudnn"
    if platform() == "tpu" and causal:
        from specialm.models import splash

        if splash.fits(length, size):
            return "splash"
    return "fused"


def _cudnn_fits(length: int, size: int) -> bool:
    """Whether cuDNN's kernel takes windows of this length and heads of this size here: NVIDIA GPUs
    from Ampere on.
    """
    try:
        capability = float(getattr(jax.devices()[0], "compute_capability", "0"))
    except ValueError:  # another maker's name of a chip
        capability = 0.0
    return capability >= 8 and length % 64 == 0 and size % 8 == 0 and size <= 128


def cached_attention(
    q_BxLxHxA: jax.Array, k_ZxAxz: jax.Array, v_ZxzxA: jax.Array, seen_BxLxz: jax.Array
) -> jax.Array:
    """As `attention`, of L new tokens over a cache of z: [B, L, H, A].

    Args:
      k_ZxAxz, v_ZxzxA: Z is B times J; the order of keys is that in which a CPU reads them fastest.
      seen_BxLxz: bool, the places of the cache that each token sees.
    """
    batch, length, heads, size = q_BxLxHxA.shape
    groups = k_ZxAxz.shape[0] // batch
    # The queries that share a head of keys, one after the other: one product for each head of keys.
    q_BxJxqxLxA = q_BxLxHxA.reshape(batch, length, groups, -1, size).transpose(0, 2, 3, 1, 4)
    q_ZxQxA = q_BxJxqxLxA.reshape(batch * groups, -1, size)
    scores_ZxQxz = _dot(q_ZxQxA, k_ZxAxz, (2,), (1,), (0,), jnp.float32)
    scores_BxJxqxLxz = scores_ZxQxz.reshape(batch, groups, -1, *seen_BxLxz.shape[1:])
    scores_BxJxqxLxz = jnp.where(seen_BxLxz[:, None, None], scores_BxJxqxLxz * size**-0.5, MASKED)
    weights_ZxQxz = jax.nn.softmax(scores_BxJxqxLxz).reshape(scores_ZxQxz.shape)
    mixed_ZxQxA = _dot(weights_ZxQxz.astype(v_ZxzxA.dtype), v_ZxzxA, (2,), (1,), (0,))
    mixed_BxJxqxLxA = mixed_ZxQxA.reshape(q_BxJxqxLxA.shape)
    return mixed_BxJxqxLxA.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, size)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def blocked_attention(
    q_ZxLxA: jax.Array,
    k_ZxLxA: jax.Array,
    v_ZxLxA: jax.Array,
    seen_ZxL: jax.Array | None = None,
    window: jax.Array | None = None,
    causal: bool = True,
) -> jax.Array:
    """Attention over blocks of queries: a causal block meets only the keys up to its end, so that
    most of the masked half is never computed. The weights are divided by their sum after they
    have met the values, [Q, A] numbers instead of [Q, z].

    Args:
      seen_ZxL: bool, the keys that are there, without causal; None for all.
      window: see `attention`.
    """
    return _attention_forward(q_ZxLxA, k_ZxLxA, v_ZxLxA, seen_ZxL, window, causal)[0]


def _blocks(length: int) -> list[tuple[int, int]]:
    """(first, end) of each block of queries."""
    count = 2 if length >= 2 * QUERY_BLOCK else 1
    edges = [length * n // count for n in range(count + 1)]
    return list(zip(edges, edges[1:], strict=False))


def _keys_of(end: int, length: int, causal: bool) -> int:
    """How many keys a block of queries that ends here meets."""
    return end if causal else length


def _masked(scores_ZxQxz: jax.Array, first: int, seen_ZxL, window, causal: bool):
    queries, keys = scores_ZxQxz.shape[1:]
    if causal:
        seen_Qxz = seen(jnp.arange(first, first + queries), keys, window)
        return jnp.where(seen_Qxz, scores_ZxQxz, MASKED)
    if seen_ZxL is None:
        return scores_ZxQxz
    return jnp.where(seen_ZxL[:, None], scores_ZxQxz, MASKED)


def _attention_forward(q_ZxLxA, k_ZxLxA, v_ZxLxA, seen_ZxL, window, causal):
    length, size = q_ZxLxA.shape[1:]
    q_ZxLxA = q_ZxLxA * size**-0.5
    mixed, weights, scales = [], [], []
    for first, end in _blocks(length):
        keys = _keys_of(end, length, causal)
        scores_ZxQxz = _dot(q_ZxLxA[:, first:end], k_ZxLxA[:, :keys], (2,), (2,), (0,), jnp.float32)
        scores_ZxQxz = _masked(scores_ZxQxz, first, seen_ZxL, window, causal)
        weights_ZxQxz = jnp.exp(scores_ZxQxz - jnp.max(scores_ZxQxz, axis=-1, keepdims=True))
        scale_ZxQx1 = 1 / jnp.sum(weights_ZxQxz, axis=-1, keepdims=True)
        weights_ZxQxz = weights_ZxQxz.astype(v_ZxLxA.dtype)
        mixed_ZxQxA = _dot(weights_ZxQxz, v_ZxLxA[:, :keys], (2,), (1,), (0,), jnp.float32)
        mixed.append((mixed_ZxQxA * scale_ZxQx1).astype(v_ZxLxA.dtype))
        weights.append(weights_ZxQxz)
        scales.append(scale_ZxQx1)
    mixed_ZxLxA = jnp.concatenate(mixed, axis=1)
    return mixed_ZxLxA, (q_ZxLxA, k_ZxLxA, v_ZxLxA, mixed_ZxLxA, weights, scales)


def _attention_backward(causal, saved, grad_ZxLxA):
    q_ZxLxA, k_ZxLxA, v_ZxLxA, mixed_ZxLxA, weights, scales = saved
    length, size = q_ZxLxA.shape[1:]
    grad_q, grad_k_ZxAxL, grad_v_ZxAxL = [], 0, 0
    for (first, end), weights_ZxQxz, scale_ZxQx1 in zip(
        _blocks(length), weights, scales, strict=True
    ):
        q_ZxQxA, mixed_ZxQxA = q_ZxLxA[:, first:end], mixed_ZxLxA[:, first:end]
        grad_ZxQxA = (grad_ZxLxA[:, first:end] * scale_ZxQx1).astype(v_ZxLxA.dtype)
        keys = _keys_of(end, length, causal)
        slope_ZxQxz = _dot(grad_ZxQxA, v_ZxLxA[:, :keys], (2,), (2,), (0,), jnp.float32)
        slope_ZxQxz -= jnp.sum(grad_ZxQxA * mixed_ZxQxA, axis=-1, keepdims=True, dtype=jnp.float32)
        slope_ZxQxz = (weights_ZxQxz * slope_ZxQxz).astype(v_ZxLxA.dtype)
        grad_q.append(_dot(slope_ZxQxz, k_ZxLxA[:, :keys], (2,), (1,), (0,)) * size**-0.5)
        # The narrow operand first, as in `outer`; keys after this block get nothing from it. For a
        # few tokens the order does not matter, and jaxlib 0.10 aborts on it (dot_op_emitter).
        keep = _in_this_order if length >= QUERY_BLOCK else lambda product: product
        after = ((0, 0), (0, 0), (0, length - keys))
        grad_k_ZxAxz, grad_v_ZxAxz = (
            keep(_dot(narrow_ZxQxA, wide_ZxQxz, (1,), (1,), (0,)))
            for narrow_ZxQxA, wide_ZxQxz in ((q_ZxQxA, slope_ZxQxz), (grad_ZxQxA, weights_ZxQxz))
        )
        grad_k_ZxAxL += jnp.pad(grad_k_ZxAxz, after)
        grad_v_ZxAxL += jnp.pad(grad_v_ZxAxz, after)
    return (
        jnp.concatenate(grad_q, axis=1),
        grad_k_ZxAxL.swapaxes(1, 2),
        grad_v_ZxAxL.swapaxes(1, 2),
        None,
        None,
    )


blocked_attention.defvjp(_attention_forward, _attention_backward)
