"""From a state to a distribution over what comes next: a norm, then a map to the vocabulary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import loss
from specialm.models.config import Config
from specialm.models.parts import Weights, byte_heads
from specialm.models.parts.embedders import EMBEDDERS
from specialm.models.parts.norms import NORMS
from specialm.models.tensors import Tensor, normal


def product_flops(config: Config) -> int:
    """Of the product of a state with [V, D], forward, per token."""
    return 2 * config.d_model * config.vocab_size


def _sum_nll(x_TxD, head_VxD, targets_T, mask_T, config: Config) -> jax.Array:
    return loss.sum_nll(x_TxD, head_VxD, targets_T, mask_T)


def _token_nll(x_TxD, head_VxD, targets_T, config: Config) -> jax.Array:
    return loss.token_nll(x_TxD, head_VxD, targets_T)


def scores(x_TxD: jax.Array, head_VxD: jax.Array, config: Config) -> jax.Array:
    """float32 [T, V]: the products of states and rows."""
    return jnp.einsum(
        "...D,VD->...V", x_TxD, head_VxD.astype(x_TxD.dtype), preferred_element_type=jnp.float32
    )


@dataclass(frozen=True)
class Head:
    """One choice of the table. A state meets a matrix [V, D], whose products with it are logits, or
    a tree of arrays that only this head knows.
    """

    declare: Callable[[Config], dict]
    # (the head's weights, the embedder's, config) -> what it meets
    meets: Callable[[Weights, Weights, Config], Any]
    flops: Callable[[Config], int] = product_flops  # of matrix products, forward, per token
    # (x [T, D], what it meets, targets [T], mask [T], config) -> float32 [], the sum of mask * nats
    sum_nll: Callable[..., jax.Array] = _sum_nll
    token_nll: Callable[..., jax.Array] = _token_nll  # (x, what it meets, targets, config) -> [T]
    # (x, what it meets, config) -> float32 [T, V]: log p of every token, up to a constant
    logits: Callable[..., jax.Array] = scores
    is_matrix: bool = True  # whether it meets [V, D]


def _declare_tied(config: Config) -> dict:
    return {"norm": NORMS[config.norm].declare(config.d_model)}


def _tied_rows(weights: Weights, embed: Weights, config: Config) -> jax.Array:
    return EMBEDDERS[config.embedder].rows(embed, config)


def _declare_untied(config: Config) -> dict:
    shape = (config.vocab_size, config.d_model)
    return {
        **_declare_tied(config),
        "out": Tensor(shape, ("vocab", "embed"), normal(0.02), decay=True),
    }


def _bytes(in_turn: bool) -> Head:
    return Head(
        lambda config: {**_declare_tied(config), **byte_heads.declare(config, in_turn)},
        byte_heads.meets,
        byte_heads.flops,
        byte_heads.sum_nll(in_turn),
        byte_heads.token_nll(in_turn),
        byte_heads.logits(in_turn),
        is_matrix=False,
    )


HEADS = {
    "tied": Head(_declare_tied, _tied_rows),
    "untied": Head(_declare_untied, lambda weights, embed, config: weights["out"]),
    "bytes": _bytes(in_turn=False),
    "bytes_in_turn": _bytes(in_turn=True),
}
