"""From what a batch holds to the vectors that enter the first layer."""

import math

import jax

from specialm.models.config import Config
from specialm.models.parts import Part, Weights
from specialm.models.tensors import Tensor, normal


def _declare_tokens(config: Config) -> dict[str, Tensor]:
    shape = (config.vocab_size, config.d_model)
    return {"tokens": Tensor(shape, ("vocab", "embed"), normal(0.02), decay=True)}


def tokens(weights: Weights, inputs_BxL: jax.Array) -> jax.Array:
    """float32 [B, L, D]: a row of a table for each token."""
    return weights["tokens"][inputs_BxL]


def scaled_tokens(weights: Weights, inputs_BxL: jax.Array) -> jax.Array:
    """`tokens` times sqrt(D), as Gemma has it (arXiv 2403.08295)."""
    return tokens(weights, inputs_BxL) * math.sqrt(weights["tokens"].shape[1])


# declare(config), apply(weights, inputs)
EMBEDDERS = {
    "tokens": Part(_declare_tokens, tokens),
    "scaled_tokens": Part(_declare_tokens, scaled_tokens),
}
