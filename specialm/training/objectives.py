"""Objectives: what is minimised, in pretraining and in fine-tuning alike.

An objective is a loss summed over the tokens that a batch's mask counts, and what it changes of a
batch beforehand. One line of the table each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from specialm.models import transformer
from specialm.models.placement import Placement

Batch = dict[str, Any]  # inputs, targets int32 [B, L], mask float32 [B, L], and more


def _as_it_is(batch: Batch, seed: int, step: int, rows_B: np.ndarray) -> Batch:
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
    transform: Callable[[Batch, int, int, np.ndarray], Batch] = _as_it_is
    fixed: Any = ()  # a tree of arrays that `sum_loss` needs besides, a teacher for example
    fixed_axes: Any = ()  # a tree like it, of logical axes
    # More columns of a batch, [B, ...] each, for windows given by their rows in the training set.
    columns: Callable[[np.ndarray], Batch] = _no_columns


def next_token(config: transformer.Config) -> Objective:
    """-log p of each token given those before it."""

    def sum_loss(params, batch, _, place):
        return transformer.sum_nll(
            params, batch["inputs"], batch["targets"], batch["mask"], config, place
        )

    return Objective(sum_loss)


# train.objective -> (the dense model's config) -> Objective
OBJECTIVES: dict[str, Callable[[transformer.Config], Objective]] = {"next_token": next_token}
