"""Cross-entropy of the tied head, without ever holding the logits of all tokens."""

import jax
import jax.numpy as jnp

from specialm.models.operations import outer
from specialm.models.target import platform

CPU_CHUNK = 512  # tokens at a time: their logits stay in the cache
CHUNK = 4096  # on accelerators


def token_nll(x_TxD: jax.Array, head_VxD: jax.Array, targets_T: jax.Array) -> jax.Array:
    """float32 [T]: -log softmax(head x)[target] in nats."""

    def chunk_nll(part):
        x_txD, targets_t = part
        return _nll(x_txD, head_VxD.astype(x_txD.dtype), targets_t)[0]

    parts = (chunks(x_TxD), chunks(targets_T))
    return jax.lax.map(chunk_nll, parts).reshape(-1)[: len(targets_T)]


@jax.custom_vjp
def sum_nll(
    x_TxD: jax.Array, head_VxD: jax.Array, targets_T: jax.Array, mask_T: jax.Array
) -> jax.Array:
    """float32 []: the sum of mask * `token_nll`.

    When a gradient is wanted it is formed in the forward pass, chunk by chunk, while the chunk's
    logits are there; they are neither stored nor computed a second time.
    """
    return jnp.sum(token_nll(x_TxD, head_VxD, targets_T) * mask_T)


def _nll(x_txD, head_VxD, targets_t):
    """nll [t], exp(logits - max) [t, V] and its sum [t], all float32."""
    logits_txV = jnp.einsum("tD,VD->tV", x_txD, head_VxD, preferred_element_type=jnp.float32)
    peak_t = jnp.max(logits_txV, axis=-1)
    exp_txV = jnp.exp(logits_txV - peak_t[:, None])
    sum_t = jnp.sum(exp_txV, axis=-1)
    target_t = jnp.take_along_axis(logits_txV, targets_t[:, None], axis=-1)[:, 0]
    return peak_t + jnp.log(sum_t) - target_t, exp_txV, sum_t


def _sum_nll_forward(x_TxD, head_VxD, targets_T, mask_T):
    narrow_VxD = head_VxD.astype(x_TxD.dtype)
    classes_V = jnp.arange(len(head_VxD))

    def add_chunk(grad_head_DxV, part):
        x_txD, targets_t, mask_t = part
        nll_t, exp_txV, sum_t = _nll(x_txD, narrow_VxD, targets_t)
        # The gradient of the logits is mask / sum * (exp - sum at the target). The factor of a
        # row is left out here, [t, V] numbers, and put on the products' [t, D] sides.
        hit_txV = classes_V == targets_t[:, None]
        rows_txV = (exp_txV - jnp.where(hit_txV, sum_t[:, None], 0)).astype(x_txD.dtype)
        factor_tx1 = (mask_t / sum_t)[:, None]
        grad_x_txD = (rows_txV @ narrow_VxD * factor_tx1).astype(x_txD.dtype)
        grad_head_DxV += outer((x_txD * factor_tx1).astype(x_txD.dtype), rows_txV)
        return grad_head_DxV, (nll_t, grad_x_txD)

    grad_head_DxV, (nll_cxt, grad_x_cxtxD) = jax.lax.scan(
        add_chunk,
        jnp.zeros(head_VxD.shape[::-1], jnp.float32),
        (chunks(x_TxD), chunks(targets_T), chunks(mask_T)),
    )
    nll_T = nll_cxt.reshape(-1)[: len(x_TxD)]
    grad_x_TxD = grad_x_cxtxD.reshape(-1, x_TxD.shape[1])[: len(x_TxD)]
    return jnp.sum(nll_T * mask_T), (grad_x_TxD, grad_head_DxV.T, nll_T)


def _sum_nll_backward(saved, grad):
    grad_x_TxD, grad_head_VxD, nll_T = saved
    return grad_x_TxD * grad.astype(grad_x_TxD.dtype), grad_head_VxD * grad, None, nll_T * grad


sum_nll.defvjp(_sum_nll_forward, _sum_nll_backward)


def chunks(tokens_T: jax.Array) -> jax.Array:
    """[T, ...] -> [c, t, ...], even chunks; the last is filled up with zeros."""
    count = len(tokens_T)
    limit = CPU_CHUNK if platform() == "cpu" else CHUNK
    number = -(-count // limit)
    size = -(-count // number)
    padding = [(0, number * size - count)] + [(0, 0)] * (tokens_T.ndim - 1)
    return jnp.pad(tokens_T, padding).reshape(number, size, *tokens_T.shape[1:])
