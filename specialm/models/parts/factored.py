"""A table of vectors as a product of two: few numbers for each token, and one matrix that maps them
to the model's width (Lan et al., ALBERT, arXiv 1909.11942, section 3.1).
"""

import math

import jax

from specialm.models.config import Config
from specialm.models.parts import Weights
from specialm.models.tensors import Tensor, normal


def declare(config: Config) -> dict[str, Tensor]:
    """Their products begin as large as the rows of a table."""
    rank, d = config.embed_rank, config.d_model
    return {
        "own": Tensor((config.vocab_size, rank), ("vocab", None), normal(0.02), decay=True),
        "own_out": Tensor((rank, d), (None, "embed"), normal(1 / math.sqrt(rank)), decay=True),
    }


def embed(weights: Weights, inputs_BxL: jax.Array, config: Config) -> jax.Array:
    """[B, L, D]."""
    own_BxLxr = weights["own"][inputs_BxL].astype(config.dtype)
    return own_BxLxr @ weights["own_out"].astype(config.dtype)


def rows(weights: Weights, config: Config) -> jax.Array:
    """float32 [V, D], of all tokens."""
    return weights["own"] @ weights["own_out"]


def flops(config: Config) -> int:
    """Of matrix products, forward, per token."""
    return 2 * config.embed_rank * config.d_model
