"""From what a batch holds to the vectors that enter the first layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax

from specialm.models.config import Config
from specialm.models.parts import Part, Weights, factored, ngram_tables, no_flops, pooled
from specialm.models.tensors import Tensor, normal


def _nothing(config: Config) -> int:
    """Of an embedder that reads each token by itself."""
    return 0


def _as_they_are(weights: Weights, config: Config) -> Weights:
    return weights


def _one(config: Config) -> float:
    return 1.0


def _table(weights: Weights, config: Config) -> jax.Array:
    return weights["tokens"]


@dataclass(frozen=True)
class Embedder(Part):
    """declare(config), apply(weights, tokens, config), flops(config).

    Attributes:
      before: how many tokens before a token its vector depends on: so many more stand in front of
        those that `apply` gives vectors of.
      rows: (weights, config) -> [V, D], whose products with normed states are the logits of a tied
        head.
      scale: these rows are the vectors of the tokens times this.
      computed: (weights, config) -> weights that give the same vectors sooner, for decoding.
    """

    before: Callable[[Config], int] = _nothing
    rows: Callable[[Weights, Config], jax.Array] = _table
    scale: Callable[[Config], float] = _one
    computed: Callable[[Weights, Config], Weights] = _as_they_are


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


EMBEDDERS = {
    "tokens": Embedder(_declare_tokens, tokens),
    "scaled_tokens": Embedder(_declare_tokens, scaled_tokens),
    "ngrams": Embedder(_declare_ngrams, ngram_tables.embed, no_flops, ngram_tables.before),
    "factored": Embedder(factored.declare, factored.embed, factored.flops, rows=factored.rows),
    "bytes": Embedder(
        pooled.declare,
        pooled.embed,
        pooled.flops,
        rows=pooled.head_rows,
        scale=pooled.scale,
        computed=jax.jit(pooled.computed, static_argnums=1),
    ),
}
