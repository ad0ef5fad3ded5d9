"""From a state to a distribution over what comes next: a norm, then a map to the vocabulary."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from specialm.models.config import Config
from specialm.models.parts import Weights
from specialm.models.parts.norms import NORMS
from specialm.models.tensors import Tensor, normal


def product_flops(config: Config) -> int:
    """Of the product of a state with [V, D], forward, per token."""
    return 2 * config.d_model * config.vocab_size


@dataclass(frozen=True)
class Head:
    """One choice of the table."""

    declare: Callable[[Config], dict]
    # (the head's weights, the embedder's) -> [V, D]: logits are its products with the state
    matrix: Callable[[Weights, Weights], jax.Array]
    flops: Callable[[Config], int] = product_flops  # of matrix products, forward, per token


def _declare_tied(config: Config) -> dict:
    return {"norm": NORMS[config.norm].declare(config.d_model)}


def _declare_untied(config: Config) -> dict:
    shape = (config.vocab_size, config.d_model)
    return {
        **_declare_tied(config),
        "out": Tensor(shape, ("vocab", "embed"), normal(0.02), decay=True),
    }


HEADS = {
    "tied": Head(_declare_tied, lambda weights, embed: embed["tokens"]),
    "untied": Head(_declare_untied, lambda weights, embed: weights["out"]),
}
