"""The transformer's operations with hand-written gradients.

They compute the plain formulas, exactly; what is gained is time on a CPU: less is saved for the
backward pass, and the matrix products come in the order that XLA's CPU libraries multiply fastest.

Letters: N tokens, B batch, H heads, P batch * heads, L tokens of a window, Q queries of a block,
S keys that a block sees, K size of a head, J heads of keys and values, G queries of such a head,
C tokens that a cache holds.
"""

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
    order that was chosen for speed."""
    return jax.lax.optimization_barrier(product)


def outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """float32 sum over tokens of a_n b_n^T: [N, A...], [N, B...] -> [A..., B...].

    The narrower operand goes first: the other order takes the CPU twice as long.
    """
    if a.size <= b.size:
        return _in_this_order(_dot(a, b, (0,), (0,), dtype=jnp.float32))
    product = _in_this_order(_dot(b, a, (0,), (0,), dtype=jnp.float32))
    return product.transpose(*range(b.ndim - 1, product.ndim), *range(b.ndim - 1))


@jax.custom_vjp
def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None) -> jax.Array:
    """x weight + bias in the dtype of x: [N, A...], [A..., B...], [B...] -> [N, B...].

    The parameters' gradients are float32 sums. A bias of None is none.
    """
    axes = x.ndim - 1
    product = _dot(x, weight.astype(x.dtype), tuple(range(1, x.ndim)), tuple(range(axes)))
    return product if bias is None else product + bias.astype(x.dtype)


def _linear_forward(x, weight, bias):
    return linear(x, weight, bias), (x, weight, None if bias is None else ())


def _linear_backward(saved, grad):
    x, weight, has_bias = saved  # None without one: said by the structure
    axes = x.ndim - 1
    grad_x = _dot(
        grad, weight.astype(grad.dtype), tuple(range(1, grad.ndim)), tuple(range(axes, weight.ndim))
    )
    grad_bias = None if has_bias is None else jnp.sum(grad, axis=0, dtype=jnp.float32)
    return grad_x, outer(x, grad), grad_bias


linear.defvjp(_linear_forward, _linear_backward)


def attention(
    q_BxLxHxK: jax.Array,
    k_BxLxJxK: jax.Array,
    v_BxLxJxK: jax.Array,
    implementation: str,
    causal: bool = True,
    mask_BxL: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention with scores q k / sqrt(K) -> [B, L, H, K].

    Args:
      k_BxLxJxK, v_BxLxJxK: of J heads, each for H / J neighbouring heads of queries.
      implementation: "fused" is `jax.nn.dot_product_attention`, "blocked" is
        `blocked_attention`, the fastest on a CPU, "splash" a kernel for TPUs (see `splash.py`);
        "auto" chooses by platform and sizes.
      causal: whether a token sees only those up to itself.
      mask_BxL: without causal: 1 for the keys that are there; None for all.
    """
    batch, length, heads, size = q_BxLxHxK.shape
    if implementation == "auto":
        implementation = _best_attention(length, size, causal)
    if implementation == "fused":
        mask = None if causal or mask_BxL is None else (mask_BxL > 0)[:, None, None]
        return jax.nn.dot_product_attention(
            q_BxLxHxK, k_BxLxJxK, v_BxLxJxK, mask=mask, is_causal=causal
        )
    k_BxLxHxK, v_BxLxHxK = (_repeated(x, heads) for x in (k_BxLxJxK, v_BxLxJxK))
    if implementation == "splash":
        from specialm.models import splash

        return splash.attention(q_BxLxHxK, k_BxLxHxK, v_BxLxHxK)

    def by_head(x_BxLxHxK):
        return x_BxLxHxK.swapaxes(1, 2).reshape(batch * heads, length, size)

    seen_PxL = None if causal or mask_BxL is None else jnp.repeat(mask_BxL > 0, heads, axis=0)
    mixed_PxLxK = blocked_attention(
        by_head(q_BxLxHxK), by_head(k_BxLxHxK), by_head(v_BxLxHxK), seen_PxL, causal
    )
    return mixed_PxLxK.reshape(batch, heads, length, size).swapaxes(1, 2)


def _repeated(x_BxLxJxK: jax.Array, heads: int) -> jax.Array:
    """Each head as often as it is used: [B, L, H, K]."""
    copies = heads // x_BxLxJxK.shape[2]
    return x_BxLxJxK if copies == 1 else jnp.repeat(x_BxLxJxK, copies, axis=2)


def _best_attention(length: int, size: int, causal: bool) -> str:
    if platform() == "cpu":
        return "blocked"
    if platform() == "tpu" and causal:
        from specialm.models import splash

        if splash.fits(length, size):
            return "splash"
    return "fused"


def cached_attention(
    q_BxLxHxK: jax.Array, k_BxCxJxK: jax.Array, v_BxCxJxK: jax.Array, seen_LxC: jax.Array
) -> jax.Array:
    """As `attention`, of L new tokens over a cache of C: [B, L, H, K].

    Args:
      seen_LxC: bool, the places of the cache that each token sees.
    """
    batch, length, heads, size = q_BxLxHxK.shape
    q_BxLxJxGxK = q_BxLxHxK.reshape(batch, length, k_BxCxJxK.shape[2], -1, size)
    scores_BxJxGxLxC = jnp.einsum(
        "BLJGK,BCJK->BJGLC", q_BxLxJxGxK, k_BxCxJxK, preferred_element_type=jnp.float32
    )
    scores_BxJxGxLxC = jnp.where(seen_LxC, scores_BxJxGxLxC * size**-0.5, MASKED)
    weights_BxJxGxLxC = jax.nn.softmax(scores_BxJxGxLxC).astype(v_BxCxJxK.dtype)
    mixed_BxLxJxGxK = jnp.einsum("BJGLC,BCJK->BLJGK", weights_BxJxGxLxC, v_BxCxJxK)
    return mixed_BxLxJxGxK.reshape(batch, length, heads, size)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def blocked_attention(
    q_PxLxK: jax.Array,
    k_PxLxK: jax.Array,
    v_PxLxK: jax.Array,
    seen_PxL: jax.Array | None = None,
    causal: bool = True,
) -> jax.Array:
    """Attention over blocks of queries: a causal block meets only the keys up to its end, so that
    most of the masked half is never computed. The weights are divided by their sum after they
    have met the values, [Q, K] numbers instead of [Q, S].

    Args:
      seen_PxL: bool, the keys that are there, without causal; None for all.
    """
    return _attention_forward(q_PxLxK, k_PxLxK, v_PxLxK, seen_PxL, causal)[0]


def _blocks(length: int) -> list[tuple[int, int]]:
    """(first, end) of each block of queries."""
    count = 2 if length >= 2 * QUERY_BLOCK else 1
    edges = [length * n // count for n in range(count + 1)]
    return list(zip(edges, edges[1:], strict=False))


def _keys_of(end: int, length: int, causal: bool) -> int:
    """How many keys a block of queries that ends here meets."""
    return end if causal else length


def _masked(scores_PxQxS: jax.Array, first: int, seen_PxL: jax.Array | None, causal: bool):
    queries, keys = scores_PxQxS.shape[1:]
    if causal:
        seen_QxS = jnp.arange(first, first + queries)[:, None] >= jnp.arange(keys)
        return jnp.where(seen_QxS, scores_PxQxS, MASKED)
    if seen_PxL is None:
        return scores_PxQxS
    return jnp.where(seen_PxL[:, None], scores_PxQxS, MASKED)


def _attention_forward(q_PxLxK, k_PxLxK, v_PxLxK, seen_PxL, causal):
    length, size = q_PxLxK.shape[1:]
    q_PxLxK = q_PxLxK * size**-0.5
    mixed, weights, scales = [], [], []
    for first, end in _blocks(length):
        keys = _keys_of(end, length, causal)
        scores_PxQxS = _dot(q_PxLxK[:, first:end], k_PxLxK[:, :keys], (2,), (2,), (0,), jnp.float32)
        scores_PxQxS = _masked(scores_PxQxS, first, seen_PxL, causal)
        weights_PxQxS = jnp.exp(scores_PxQxS - jnp.max(scores_PxQxS, axis=-1, keepdims=True))
        scale_PxQx1 = 1 / jnp.sum(weights_PxQxS, axis=-1, keepdims=True)
        weights_PxQxS = weights_PxQxS.astype(v_PxLxK.dtype)
        mixed_PxQxK = _dot(weights_PxQxS, v_PxLxK[:, :keys], (2,), (1,), (0,), jnp.float32)
        mixed.append((mixed_PxQxK * scale_PxQx1).astype(v_PxLxK.dtype))
        weights.append(weights_PxQxS)
        scales.append(scale_PxQx1)
    mixed_PxLxK = jnp.concatenate(mixed, axis=1)
    return mixed_PxLxK, (q_PxLxK, k_PxLxK, v_PxLxK, mixed_PxLxK, weights, scales)


def _attention_backward(causal, saved, grad_PxLxK):
    q_PxLxK, k_PxLxK, v_PxLxK, mixed_PxLxK, weights, scales = saved
    length, size = q_PxLxK.shape[1:]
    grad_q, grad_k_PxKxL, grad_v_PxKxL = [], 0, 0
    for (first, end), weights_PxQxS, scale_PxQx1 in zip(
        _blocks(length), weights, scales, strict=True
    ):
        q_PxQxK, mixed_PxQxK = q_PxLxK[:, first:end], mixed_PxLxK[:, first:end]
        grad_PxQxK = (grad_PxLxK[:, first:end] * scale_PxQx1).astype(v_PxLxK.dtype)
        keys = _keys_of(end, length, causal)
        slope_PxQxS = _dot(grad_PxQxK, v_PxLxK[:, :keys], (2,), (2,), (0,), jnp.float32)
        slope_PxQxS -= jnp.sum(grad_PxQxK * mixed_PxQxK, axis=-1, keepdims=True, dtype=jnp.float32)
        slope_PxQxS = (weights_PxQxS * slope_PxQxS).astype(v_PxLxK.dtype)
        grad_q.append(_dot(slope_PxQxS, k_PxLxK[:, :keys], (2,), (1,), (0,)) * size**-0.5)
        # The narrow operand first, as in `outer`; keys after this block get nothing from it. For a
        # few tokens the order does not matter, and jaxlib 0.10 aborts on it (dot_op_emitter).
        keep = _in_this_order if length >= QUERY_BLOCK else lambda product: product
        after = ((0, 0), (0, 0), (0, length - keys))
        grad_k_PxKxS, grad_v_PxKxS = (
            keep(_dot(narrow_PxQxK, wide_PxQxS, (1,), (1,), (0,)))
            for narrow_PxQxK, wide_PxQxS in ((q_PxQxK, slope_PxQxS), (grad_PxQxK, weights_PxQxS))
        )
        grad_k_PxKxL += jnp.pad(grad_k_PxKxS, after)
        grad_v_PxKxL += jnp.pad(grad_v_PxKxS, after)
    return (
        jnp.concatenate(grad_q, axis=1),
        grad_k_PxKxL.swapaxes(1, 2),
        grad_v_PxKxL.swapaxes(1, 2),
        None,
    )


blocked_attention.defvjp(_attention_forward, _attention_backward)
