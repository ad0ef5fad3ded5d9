"""From what a batch holds to the vectors that enter the first layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from specialm.models.config import Config
from specialm.models.parts import Part, Weights, ngram_tables, no_flops, pieces
from specialm.models.parts.norms import NORMS
from specialm.models.tensors import Tensor, normal


def _nothing(config: Config) -> int:
    """Of an embedder that reads each token by itself."""
    return 0


@dataclass(frozen=True)
class Embedder(Part):
    """declare(config), apply(weights, tokens, config), flops(config).

    Attributes:
      before: how many tokens before a token its vector depends on: so many more stand in front of
        those that `apply` gives vectors of.
    """

    before: Callable[[Config], int] = _nothing


def _declare_tokens(config: Config) -> dict[str, Tensor]:
    shape = (config.vocab_size, config.d_model)
    return {"tokens": Tensor(shape, ("vocab", "embed"), normal(0.02), decay=True)}


def tokens(weights: Weights, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """float32 [B, L, D]: a row of a table for each token."""
    return weights["tokens"][inputs_BxL]


def scaled_tokens(weights: Weights, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """`tokens` times sqrt(D), as Gemma has it (arXiv 2403.08295)."""
    return tokens(weights, inputs_BxL, config) * math.sqrt(weights["tokens"].shape[1])


def _declare_ngrams(config: Config) -> dict[str, Tensor]:
    return {**_declare_tokens(config), **ngram_tables.declare(config)}


def _declare_bytes(config: Config) -> dict:
    out = normal(1 / math.sqrt(config.byte_size))
    return {
        pieces.CODES: pieces.declare_codes(config),
        "bytes": pieces.table(config, config.byte_classes),
        "places": pieces.table(config, config.byte_slots),
        **pieces.declare_blocks(config, config.byte_layers),
        "byte_norm": NORMS[config.norm].declare(config.byte_size),
        "out": Tensor((config.byte_size, config.d_model), (None, "embed"), out, decay=True),
    }


def pooled_bytes(weights: Weights, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """[B, L, D]: the mean over the bytes of each piece, after small blocks in which they see each
    other (arXiv 2405.14159, section 3.1; there the pads are in the mean).

    A batch of more tokens than there are pieces reads every piece once.
    """
    codes_Vxi = pieces.read(weights[pieces.CODES])
    if inputs_BxL.size >= len(codes_Vxi):
        return _pool(weights, codes_Vxi, config)[inputs_BxL]
    x_TxD = _pool(weights, codes_Vxi[inputs_BxL.reshape(-1)], config)
    return x_TxD.reshape(*inputs_BxL.shape, config.d_model)


def _pool(weights: Weights, codes_Txi: jax.Array, config: Config) -> jax.Array:
    """[T, D] of the pieces with these codes. The end mark is no byte."""
    there_Txi = (codes_Txi != pieces.NOTHING) & (codes_Txi != pieces.END)
    x_Txixe = weights["bytes"][jnp.maximum(codes_Txi, 0)] + weights["places"]
    seen_Txi = there_Txi.astype(jnp.float32)
    x_Nxe = pieces.run_blocks(
        weights, x_Txixe.astype(config.dtype), config, causal=False, there_Txi=seen_Txi
    )
    x_Txixe = x_Nxe.reshape(x_Txixe.shape).astype(jnp.float32)
    sizes_T = jnp.maximum(jnp.sum(seen_Txi, 1), 1)
    mean_Txe = jnp.sum(x_Txixe * seen_Txi[..., None], 1) / sizes_T[:, None]
    return mean_Txe.astype(config.dtype) @ weights["out"].astype(config.dtype)


def _bytes_flops(config: Config) -> int:
    blocks = pieces.block_flops(config, config.byte_layers)
    return blocks + 2 * config.byte_size * config.d_model


EMBEDDERS = {
    "tokens": Embedder(_declare_tokens, tokens),
    "scaled_tokens": Embedder(_declare_tokens, scaled_tokens),
    "ngrams": Embedder(_declare_ngrams, ngram_tables.embed, no_flops, ngram_tables.before),
    "bytes": Embedder(_declare_bytes, pooled_bytes, _bytes_flops),
}
