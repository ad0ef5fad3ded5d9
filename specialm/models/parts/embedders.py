"""From what a batch holds to the vectors that enter the first layer."""

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


# declare(config), apply(weights, inputs)
EMBEDDERS = {"tokens": Part(_declare_tokens, tokens)}
