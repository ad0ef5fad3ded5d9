"""A table of vectors as a product of two: few numbers for each token, and one matrix that maps them
to the model's width (Lan et al., ALBERT, arXiv 1909.11942, section 3.1).
"""

import math
from collections.abc import Callable

import jax

from specialm.models.config import Config
from specialm.models.parts import Weights
from specialm.models.tensors import Tensor, normal

OF_TABLE = normal(0.02)  # as `embedders` has it for a table


def declare(config: Config, own: Callable = OF_TABLE) -> dict[str, Tensor]:
    """The two tables; their products begin as large as the rows of a table.

    Args:
      own: initial values of the first, if they are others.
    """
    rank, d = config.embed_rank, config.d_model
    return {
        "own": Tensor((config.vocab_size, rank), ("vocab", None), own, decay=True),
        "own_out": Tensor((rank, d), (None, "embed"), normal(1 / math.sqrt(rank)), decay=True),
    }


def embed(weights: Weights, inputs: jax.Array | slice, config: Config) -> jax.Array:
    """[..., D] of tokens [...]."""
    return weights["own"][inputs].astype(config.dtype) @ weights["own_out"].astype(config.dtype)


def rows(weights: Weights, config: Config) -> jax.Array:
    """float32 [V, D], of all tokens."""
    return weights["own"] @ weights["own_out"]


def flops(config: Config) -> int:
    """Of matrix products, forward, per token."""
    return 2 * config.embed_rank * config.d_model
