"""What a model that sees the whole window knows of a text: its pseudo-likelihood.

Salazar et al. (arXiv 1910.14659, equation 1): each token is hidden in turn, and the sum of -log p
of the hidden ones takes the place of -log p of the text. It is no likelihood of any text: it
compares masked models with each other, not with causal ones.
"""

import jax
import jax.numpy as jnp

from specialm.models import transformer
from specialm.models.placement import WHOLE, Placement
from specialm.training.objectives import MASK

FEW = 7  # turns of validation: a seventh is hidden at once, about as many as in training


def token_nll(
    params: transformer.Params,
    targets_BxL: jax.Array,
    mask_BxL: jax.Array,
    config: transformer.Config,
    place: Placement = WHOLE,
    turns: int = 0,
) -> jax.Array:
    """float32 [B, L]: -log p of each token while it is hidden, in nats.

    Args:
      mask_BxL: 1 for the tokens that are there.
      turns: every so many tokens are hidden at once; 0 hides one at a time, as published.
    """
    length = targets_BxL.shape[1]
    turns = min(turns, length) or length
    turn_L = jnp.arange(length) % turns

    def add(nll_BxL, turn):
        inputs_BxL = jnp.where(turn_L == turn, MASK, targets_BxL)
        found = transformer.token_nll(params, inputs_BxL, targets_BxL, config, place, mask_BxL)
        return jnp.where(turn_L == turn, found, nll_BxL), None

    return jax.lax.scan(add, jnp.zeros(targets_BxL.shape), jnp.arange(turns))[0]


def passes(config: transformer.Config, turns: int = 0) -> int:
    """Forward passes that scoring a window takes."""
    return 1 if config.causal else min(turns, config.context) or config.context
