"""Vectors of pieces from their bytes.

A piece is the mean over its bytes, after small blocks in which they see each other (arXiv
2405.14159, section 3.1; there the pads are in the mean), mapped to the model's width. Spelling does
not say how often a piece comes, nor what a name means: `embed_rank` numbers of each piece's own are
added, mapped to the width by one matrix.
"""

import math

import jax
import jax.numpy as jnp

from specialm.models.config import Config
from specialm.models.parts import Weights, factored, pieces
from specialm.models.parts.norms import NORMS
from specialm.models.tensors import Tensor, normal, zeros

# The vectors of all pieces and the rows of a tied head, where `computed` has put them.
ROWS, HEAD_ROWS = "rows", "head_rows"


def declare(config: Config) -> dict:
    """A tree of `Tensor`."""
    e, d = config.byte_size, config.d_model
    return {
        pieces.CODES: pieces.declare_codes(config),
        "bytes": pieces.table(config, config.byte_classes),
        "places": pieces.table(config, config.byte_slots),
        **pieces.declare_blocks(config, config.byte_layers),
        "byte_norm": NORMS[config.norm].declare(e),
        "out": Tensor((e, d), (None, "embed"), normal(1 / math.sqrt(e)), decay=True),
        **(factored.declare(config, zeros) if config.embed_rank else {}),
    }


def embed(weights: Weights, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """[B, L, D]. A batch of at least as many tokens as there are pieces reads every piece once."""
    if ROWS in weights or inputs_BxL.size >= config.vocab_size:
        return rows(weights, config)[inputs_BxL]
    x_TxD = _pool(weights, inputs_BxL.reshape(-1), config)
    return x_TxD.reshape(*inputs_BxL.shape, config.d_model)


def rows(weights: Weights, config: Config) -> jax.Array:
    """[V, D]: of every piece."""
    return weights[ROWS] if ROWS in weights else _pool(weights, slice(None), config)


def head_rows(weights: Weights, config: Config) -> jax.Array:
    """float32 [V, D], whose products with normed states are logits. Those of the vectors as they
    are, whose length is sqrt(D), would begin as large.
    """
    if HEAD_ROWS in weights:
        return weights[HEAD_ROWS]
    # As a table is: the loss adds up its gradient in float32.
    return rows(weights, config).astype(jnp.float32) * scale(config)


def scale(config: Config) -> float:
    """Of the rows of the head: these are the vectors times this."""
    return 1 / math.sqrt(config.d_model)


def computed(weights: Weights, config: Config) -> Weights:
    """The embedder with the vectors of all pieces, and their rows in a tied head, beside what they
    are computed from.
    """
    weights = {**weights, ROWS: rows(weights, config)}
    return {**weights, HEAD_ROWS: head_rows(weights, config)}


def _pool(weights: Weights, of_T, config: Config) -> jax.Array:
    """[T, D] of these pieces. The end mark is no byte."""
    codes_Txi = pieces.read(weights[pieces.CODES])[of_T]
    there_Txi = (codes_Txi != pieces.NOTHING) & (codes_Txi != pieces.END)
    x_Txixe = weights["bytes"][jnp.maximum(codes_Txi, 0)] + weights["places"]
    seen_Txi = there_Txi.astype(jnp.float32)
    x_Nxe = pieces.run_blocks(
        weights, x_Txixe.astype(config.dtype), config, causal=False, there_Txi=seen_Txi
    )
    x_Txixe = x_Nxe.reshape(x_Txixe.shape).astype(jnp.float32)
    sizes_T = jnp.maximum(jnp.sum(seen_Txi, 1), 1)
    mean_Txe = jnp.sum(x_Txixe * seen_Txi[..., None], 1) / sizes_T[:, None]
    x_TxD = mean_Txe.astype(config.dtype) @ weights["out"].astype(config.dtype)
    if config.embed_rank:
        x_TxD += factored.embed(weights, of_T, config)
    return x_TxD


def flops(config: Config) -> int:
    """Of matrix products, forward, per token, as if each read its piece."""
    blocks = pieces.block_flops(config, config.byte_layers)
    return blocks + 2 * config.byte_size * config.d_model + factored.flops(config)
