"""Cross-entropy of the tied head, without ever holding the logits of all tokens.

Letters: N tokens, T tokens of a chunk, D d_model, V vocabulary.
"""

import jax
import jax.numpy as jnp

from specialm.models.operations import outer
from specialm.models.target import platform

CPU_CHUNK = 512  # tokens at a time: their logits stay in the cache
CHUNK = 4096  # on accelerators


def token_nll(x_NxD: jax.Array, head_VxD: jax.Array, targets_N: jax.Array) -> jax.Array:
    """float32 [N]: -log softmax(head x)[target] in nats."""

    def chunk_nll(part):
        x_TxD, targets_T = part
        return _nll(x_TxD, head_VxD.astype(x_TxD.dtype), targets_T)[0]

    parts = (chunks(x_NxD), chunks(targets_N))
    return jax.lax.map(chunk_nll, parts).reshape(-1)[: len(targets_N)]


@jax.custom_vjp
def sum_nll(
    x_NxD: jax.Array, head_VxD: jax.Array, targets_N: jax.Array, mask_N: jax.Array
) -> jax.Array:
    """float32 []: the sum of mask * `token_nll`.

    When a gradient is wanted it is formed in the forward pass, chunk by chunk, while the chunk's
    logits are there; they are neither kept nor computed a second time.
    """
    return jnp.sum(token_nll(x_NxD, head_VxD, targets_N) * mask_N)


def _nll(x_TxD, head_VxD, targets_T):
    """nll [T], exp(logits - max) [T, V] and its sum [T], all float32."""
    logits_TxV = jnp.einsum("TD,VD->TV", x_TxD, head_VxD, preferred_element_type=jnp.float32)
    peak_T = jnp.max(logits_TxV, axis=-1)
    exp_TxV = jnp.exp(logits_TxV - peak_T[:, None])
    sum_T = jnp.sum(exp_TxV, axis=-1)
    target_T = jnp.take_along_axis(logits_TxV, targets_T[:, None], axis=-1)[:, 0]
    return peak_T + jnp.log(sum_T) - target_T, exp_TxV, sum_T


def _sum_nll_forward(x_NxD, head_VxD, targets_N, mask_N):
    narrow_VxD = head_VxD.astype(x_NxD.dtype)
    classes_V = jnp.arange(len(head_VxD))

    def add_chunk(grad_head_DxV, part):
        x_TxD, targets_T, mask_T = part
        nll_T, exp_TxV, sum_T = _nll(x_TxD, narrow_VxD, targets_T)
        # The gradient of the logits is mask / sum * (exp - sum at the target). The factor of a
        # row is left out here, [T, V] numbers, and put on the products' [T, D] sides.
        hit_TxV = classes_V == targets_T[:, None]
        rows_TxV = (exp_TxV - jnp.where(hit_TxV, sum_T[:, None], 0)).astype(x_TxD.dtype)
        factor_Tx1 = (mask_T / sum_T)[:, None]
        grad_x_TxD = (rows_TxV @ narrow_VxD * factor_Tx1).astype(x_TxD.dtype)
        grad_head_DxV += outer((x_TxD * factor_Tx1).astype(x_TxD.dtype), rows_TxV)
        return grad_head_DxV, (nll_T, grad_x_TxD)

    grad_head_DxV, (nll_CxT, grad_x_CxTxD) = jax.lax.scan(
        add_chunk,
        jnp.zeros(head_VxD.shape[::-1], jnp.float32),
        (chunks(x_NxD), chunks(targets_N), chunks(mask_N)),
    )
    nll_N = nll_CxT.reshape(-1)[: len(x_NxD)]
    grad_x_NxD = grad_x_CxTxD.reshape(-1, x_NxD.shape[1])[: len(x_NxD)]
    return jnp.sum(nll_N * mask_N), (grad_x_NxD, grad_head_DxV.T, nll_N)


def _sum_nll_backward(saved, grad):
    grad_x_NxD, grad_head_VxD, nll_N = saved
    return grad_x_NxD * grad.astype(grad_x_NxD.dtype), grad_head_VxD * grad, None, nll_N * grad


sum_nll.defvjp(_sum_nll_forward, _sum_nll_backward)


def chunks(tokens_N: jax.Array) -> jax.Array:
    """[N, ...] -> [chunks, T, ...], even chunks; the last is filled up with zeros."""
    count = len(tokens_N)
    limit = CPU_CHUNK if platform() == "cpu" else CHUNK
    number = -(-count // limit)
    size = -(-count // number)
    padding = [(0, number * size - count)] + [(0, 0)] * (tokens_N.ndim - 1)
    return jnp.pad(tokens_N, padding).reshape(number, size, *tokens_N.shape[1:])
