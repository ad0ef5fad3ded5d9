"""Causal attention on a TPU: JAX's own kernel ("splash attention"), which keeps the scores on the
chip; in plain XLA they go to memory and back, most of a step's traffic at 1,024 tokens.
"""

import jax
from jax.experimental.pallas.ops.tpu import splash_attention as kernels

from specialm.models.placement import ATTENDED

LANES = 128  # sizes that the kernel takes are multiples of this
BLOCKS = (512, 256, 128)  # queries and keys at a time


def fits(length: int, size: int) -> bool:
    """Whether the kernel takes windows of this length and heads of this size."""
    return length % LANES == 0 and size % LANES == 0


def attention(
    q_BxLxHxA: jax.Array, k_BxLxHxA: jax.Array, v_BxLxHxA: jax.Array, interpret: bool = False
) -> jax.Array:
    """Softmax attention with scores q k / sqrt(K) over the keys up to each query, [B, L, H, A].

    Args:
      interpret: run the kernel's steps one by one where there is no TPU, for tests.
    """
    length, heads, size = q_BxLxHxA.shape[1:]
    block = next(b for b in BLOCKS if length % b == 0)
    sizes = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    causal = kernels.MultiHeadMask([kernels.CausalMask((length, length))] * heads)
    kernel = kernels.make_splash_mha(
        causal,
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=ATTENDED,
        interpret=interpret,
    )
    q_BxHxLxA, k_BxHxLxA, v_BxHxLxA = (
        x.swapaxes(1, 2) for x in (q_BxLxHxA * size**-0.5, k_BxLxHxA, v_BxLxHxA)
    )
    return jax.vmap(kernel)(q_BxHxLxA, k_BxHxLxA, v_BxHxLxA).swapaxes(1, 2)
