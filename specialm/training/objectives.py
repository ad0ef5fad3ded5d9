"""Objectives: what is minimised, in pretraining and in fine-tuning alike.

An objective is a loss summed over the tokens that a batch's mask counts, and what it changes of a
batch beforehand. One line of the table each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.models import dropout, transformer
from specialm.models.placement import Placement

Batch = dict[str, Any]  # inputs, targets int32 [B, L], mask float32 [B, L], and more


def _unchanged(batch: Batch, seed: int, step: int, rows_B: np.ndarray) -> Batch:
    return batch


def _no_columns(rows_B: np.ndarray) -> Batch:
    return {}


@dataclass(frozen=True)
class Objective:
    """The mean of a loss over the tokens that the mask counts."""

    # (params, batch, fixed, place) -> float32 [], the sum over this device's share of the tokens of
    # mask * loss; see `training.step.make_sums`.
    sum_loss: Callable[[transformer.Params, Batch, Any, Placement], jax.Array]
    # (batch, seed, step, rows [B] of the whole batch) -> batch, on the host: a pure function, so
    # that a resumed run and any number of processes see the same.
    transform: Callable[[Batch, int, int, np.ndarray], Batch] = _unchanged
    fixed: Any = ()  # a tree of arrays that `sum_loss` needs besides, a teacher for example
    fixed_axes: Any = ()  # a tree like it, of logical axes
    # More columns of a batch, [B, ...] each, for windows given by their rows in the training set.
    columns: Callable[[np.ndarray], Batch] = _no_columns


def next_token(config: transformer.Config, frozen: int = 0) -> Objective:
    """-log p of each token given those before it.

    Args:
      frozen: first layers that get no gradient, see `transformer.hidden`.

    Raises:
      UserError: the model sees the tokens that it is to predict.
    """
    if not config.causal:
        raise UserError(
            "model.causal=False sees the tokens that train.objective='next_token' predicts; set "
            "train.objective='masked'."
        )

    def sum_loss(params, batch, _, place):
        return transformer.sum_nll(
            params,
            batch["inputs"],
            batch["targets"],
            batch["mask"],
            config,
            place,
            dropout=dropout.of(batch),
            frozen=frozen,
        )

    return Objective(sum_loss)


MASK = 2  # the id that stands for a hidden token: "unknown", which no text gives
CHOSEN, HIDDEN, REPLACED = 0.15, 0.8, 0.1  # of the tokens; of those chosen


def masked(config: transformer.Config, frozen: int = 0) -> Objective:
    """Masked language modelling (BERT, arXiv 1810.04805, section 3.1), with new masks each step.

    15% of the tokens are predicted: of these 80% are replaced by MASK, 10% by a random
    token, 10% left as they are.

    Args:
      frozen: see `next_token`.
    """

    def transform(batch: Batch, seed: int, step: int, rows_B: np.ndarray) -> Batch:
        present_BxL, tokens_BxL = batch["mask"], batch["targets"]
        shape = tokens_BxL.shape[1:]
        draws_3xBxL = np.stack([_draws(seed, step, row, shape) for row in rows_B], axis=1)
        chosen_BxL, how_BxL, random_BxL = draws_3xBxL
        chosen_BxL = (chosen_BxL < CHOSEN) & (present_BxL > 0)
        other_BxL = (random_BxL * config.vocab_size).astype(tokens_BxL.dtype)
        inputs_BxL = np.where(how_BxL < HIDDEN, MASK, tokens_BxL)
        inputs_BxL = np.where(how_BxL >= 1 - REPLACED, other_BxL, inputs_BxL)
        return {
            **batch,
            "inputs": np.where(chosen_BxL, inputs_BxL, tokens_BxL).astype(tokens_BxL.dtype),
            "mask": chosen_BxL.astype(present_BxL.dtype),
            "present": present_BxL,
        }

    def sum_loss(params, batch, _, place):
        return transformer.sum_nll(
            params,
            batch["inputs"],
            batch["targets"],
            batch["mask"],
            config,
            place,
            batch["present"],
            dropout.of(batch),
            frozen,
        )

    return Objective(sum_loss, transform)


def _draws(seed: int, step: int, row: int, shape: tuple[int, ...]) -> np.ndarray:
    """float64 [3, L] in [0, 1), of one window of a step."""
    return np.random.default_rng([seed, step, int(row), MASK]).random((3, *shape))


# train.objective -> (the dense model's config, first layers without gradient) -> Objective
OBJECTIVES: dict[str, Callable[[transformer.Config, int], Objective]] = {
    "next_token": next_token,
    "masked": masked,
}


def make(name: str, config: transformer.Config, frozen: int = 0) -> Objective:
    """The objective of this name for a model, so many of whose first layers get no gradient.

    Raises:
      UserError: there is none, or it is not for this model.
    """
    if name not in OBJECTIVES:
        raise UserError(f"train.objective={name!r}: must be one of {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name](config, frozen)
