"""Rows for the n-grams that end at a token, found in a table by hashing.

Beside a token's own row its vector is the sum of one row for each length from 2 to `ngram_order`
(Huang et al., arXiv 2501.16975, section 3.2, over-encoding). That adds parameters, which learn what
an n-gram model counts, and next to no arithmetic. Each length has `ngram_rows` rows; n-grams of the
same hash share one.
"""

import jax
import jax.numpy as jnp

from specialm.models.config import Config
from specialm.models.parts import Weights
from specialm.models.tensors import TABLE as GROUP
from specialm.models.tensors import Tensor, normal

TABLE = "ngrams"
# int32 values as float32 [N], beside a table of N rows: which rows of the whole table these are,
# ascending, see `training/touched.py`.
CHOSEN = "chosen"
FACTOR = 0x9E3779B1  # 2^32 / the golden ratio, odd


def before(config: Config) -> int:
    """How many tokens before a token its vector depends on."""
    return config.ngram_order - 1


def count(config: Config) -> int:
    """Rows of the table, of all lengths; those of bigrams first."""
    return before(config) * config.ngram_rows


def declare(config: Config) -> dict[str, Tensor]:
    """The table."""
    shape = (count(config), config.d_model)
    return {TABLE: Tensor(shape, ("ngram", "embed"), normal(0.02), decay=True, group=GROUP)}


def rows(tokens_BxM: jax.Array, config: Config) -> jax.Array:
    """int32 [n - 1, B, L]: the rows of the n-grams that end at each token, of bigrams first.

    Args:
      tokens_BxM: L tokens, and the n - 1 before them.
    """
    length = tokens_BxM.shape[1] - before(config)
    hash_BxL, found = jnp.zeros((len(tokens_BxM), length), jnp.uint32), []
    for back in range(config.ngram_order):
        first = before(config) - back
        tokens_BxL = tokens_BxM[:, first : first + length].astype(jnp.uint32)
        hash_BxL = (hash_BxL ^ (tokens_BxL + 1)) * jnp.uint32(FACTOR)
        hash_BxL ^= hash_BxL >> 16  # the low bits of a product know the low bits of its factors
        row_BxL = (hash_BxL % config.ngram_rows).astype(jnp.int32)
        found.append((back - 1) * config.ngram_rows + row_BxL)
    return jnp.stack(found[1:])


def embed(weights: Weights, tokens_BxM: jax.Array, config: Config) -> jax.Array:
    """float32 [B, L, D]: of each token the sum of its rows."""
    row_NxBxL = rows(tokens_BxM, config)
    if CHOSEN in weights:
        row_NxBxL = jnp.searchsorted(weights[CHOSEN].astype(jnp.int32), row_NxBxL)
    x_BxLxD = weights["tokens"][tokens_BxM[:, before(config) :]]
    for row_BxL in row_NxBxL:
        x_BxLxD += weights[TABLE][row_BxL]
    return x_BxLxD
