"""Dropout schedules: how large a part is dropped at each step of pretraining.

Those of "Super Tiny Language Models" (arXiv 2405.14159): a constant rate, a linear rise, a
triangle, and dropout in the first part of the training alone, against underfitting (Liu et al.,
arXiv 2303.01500). A schedule is one line of the table.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from specialm.models import dropout
from specialm.training.objectives import Batch, Objective

TAG = 7  # of the draws, so that no other has the same

# train.dropout_schedule -> (share of the training that is done, in [0, 1); train.dropout_fraction)
# -> rate / train.dropout
SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "constant": lambda done, fraction: 1.0,
    "linear": lambda done, fraction: min(done / fraction, 1.0) if fraction else 1.0,
    "triangle": lambda done, fraction: (
        done / fraction if done < fraction else (1 - done) / (1 - fraction) if fraction < 1 else 1.0
    ),
    "early": lambda done, fraction: float(done < fraction),
}


def rate(train: ConfigDict, step: int, steps: int) -> float:
    """The rate at a step, counted from 0, of so many."""
    share = SCHEDULES[train.dropout_schedule](step / steps, train.dropout_fraction)
    return float(train.dropout * share)


def scheduled(objective: Objective, train: ConfigDict, steps: int) -> Objective:
    """The objective with what is dropped of each window, a pure function of seed, step and row.

    Steps of rate 0 are those of a run without dropout, bit for bit: nothing is drawn.
    """
    if not train.dropout:
        return objective

    def transform(batch: Batch, seed: int, step: int, rows_B: np.ndarray) -> Batch:
        batch, now = objective.transform(batch, seed, step, rows_B), rate(train, step, steps)
        if not now:
            return batch
        keys = [np.random.SeedSequence([seed, step, int(row), TAG]) for row in rows_B]
        return {
            **batch,
            dropout.KEYS: np.stack([key.generate_state(2, np.uint32) for key in keys]),
            dropout.RATE: np.full((len(rows_B), 1), now, np.float32),
        }

    return dataclasses.replace(objective, transform=transform)
