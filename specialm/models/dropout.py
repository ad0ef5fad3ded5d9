"""Dropout: what enters the first layer and what each block adds, a part of the numbers at random 0.

Hinton et al. (arXiv 1207.0580), in the places of a GPT-2: the embedded tokens, and the results of
attention and MLP before they are added; not the probabilities of attention, which the kernels never
hold. The others are divided by the share that stays. What is dropped of a window depends on its key
alone, so not on how a batch is divided over devices or run in parts.

The draws are a hash of the number's place, two rounds of the mixing function lowbias32 (Wellons,
"Prospecting for hash functions", 2018): a fraction of the work of `jax.random`, and of the time to
compile it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

KEYS, RATE = "dropout_keys", "dropout_rate"  # columns of a batch that is trained on
LEVELS = 1 << 24  # a rate is rounded to a multiple of 1 / LEVELS, and what stays is divided by that
GOLDEN = 0x9E3779B9  # 2^32 / the golden ratio: places get keys far apart


class Dropout(NamedTuple):
    """What a batch says of it."""

    keys_Bx2: jax.Array  # uint32, of each window
    rate_Bx1: jax.Array  # float32, the same of all windows

    def apply(self, x_TxD: jax.Array, place: jax.Array | int) -> jax.Array:
        """The states of B windows, one after the other, with some numbers 0.

        Args:
          place: which of the places of the model this is; each draws anew.
        """
        dropped = jnp.round(self.rate_Bx1[0, 0] * LEVELS)
        numbers = jnp.arange(x_TxD.size // len(self.keys_Bx2), dtype=jnp.uint32)
        first_Bx1, second_Bx1 = jnp.split(jnp.asarray(self.keys_Bx2), 2, axis=1)
        own_Bx1 = _mixed(first_Bx1 + jnp.uint32(GOLDEN) * jnp.asarray(place, jnp.uint32))
        drawn = _mixed(_mixed(numbers + own_Bx1) ^ second_Bx1) >> 8
        stays_TxD = drawn.reshape(x_TxD.shape) >= dropped.astype(jnp.uint32)
        return jnp.where(stays_TxD, x_TxD / (1 - dropped / LEVELS).astype(x_TxD.dtype), 0)


def _mixed(x: jax.Array) -> jax.Array:
    """uint32 -> uint32, a bijection that spreads every bit over all."""
    x = (x ^ x >> 16) * jnp.uint32(0x7FEB352D)
    x = (x ^ x >> 15) * jnp.uint32(0x846CA68B)
    return x ^ x >> 16


def of(batch: dict) -> Dropout | None:
    """That of a batch; None where nothing is dropped, as in all that is scored."""
    return Dropout(batch[KEYS], batch[RATE]) if KEYS in batch else None
