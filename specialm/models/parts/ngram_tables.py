"""Rows for the n-grams that end at a token, found in tables by hashing.

Beside a token's own row its vector is the sum of one row for each length from 2 to `ngram_order`
(Huang et al., arXiv 2501.16975, section 3.2, over-encoding). That adds parameters, which learn what
an n-gram model counts, and next to no arithmetic. N-grams may share a row: one of `ngram_rows` is
found by multiplicative hashing.
"""

import jax
import jax.numpy as jnp

from specialm.models.config import Config
from specialm.models.parts import Weights
from specialm.models.tensors import Tensor, normal

FACTOR = 0x9E3779B1  # 2^32 / the golden ratio, odd


def before(config: Config) -> int:
    """How many tokens before a token its vector depends on."""
    return config.ngram_order - 1


def declare(config: Config) -> dict[str, Tensor]:
    """{ngrams: a table for each length from 2}."""
    shape = (before(config), config.ngram_rows, config.d_model)
    return {"ngrams": Tensor(shape, (None, "ngram", "embed"), normal(0.02), decay=True)}


def rows(tokens_BxM: jax.Array, config: Config) -> jax.Array:
    """int32 [n - 1, B, L]: the rows of the n-grams that end at each token, shortest first.

    Args:
      tokens_BxM: L tokens, and the n - 1 before them.
    """
    length = tokens_BxM.shape[1] - before(config)
    hash_BxL, found = jnp.zeros((len(tokens_BxM), length), jnp.uint32), []
    for back in range(config.ngram_order):
        first = before(config) - back
        tokens_BxL = tokens_BxM[:, first : first + length].astype(jnp.uint32)
        hash_BxL = (hash_BxL ^ (tokens_BxL + 1)) * jnp.uint32(FACTOR)
        hash_BxL ^= hash_BxL >> 16  # the low bits of a product know its low bits alone
        found.append((hash_BxL % config.ngram_rows).astype(jnp.int32))
    return jnp.stack(found[1:])


def embed(weights: Weights, tokens_BxM: jax.Array, config: Config) -> jax.Array:
    """float32 [B, L, D]: of each token the sum of its rows."""
    rows_NxBxL = rows(tokens_BxM, config)
    tables_NxRxD = weights["ngrams"]
    own_BxL = tokens_BxM[:, before(config) :]
    return sum(
        (tables_NxRxD[n][rows_BxL] for n, rows_BxL in enumerate(rows_NxBxL)),
        start=weights["tokens"][own_BxL],
    )
