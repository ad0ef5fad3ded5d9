"""Learning rates where none is given: for going on from a trained model, for tuning an open one.

Why they are what they are: docs/open_models.md, "Learning rates".
"""

from ml_collections import ConfigDict

FEWER = 3  # a trained model goes on with the rate of its pretraining divided by this
OPEN_RATE, OPEN_WIDTH = 1e-4, 576  # of an open checkpoint, and the width that it was measured at


def of_open(d_model: int) -> float:
    """The peak for a checkpoint that others trained: in inverse proportion to its width, as the
    best rate of Adam goes with it (Yang et al., arXiv 2203.03466, table 3), not above that of
    `OPEN_WIDTH`.
    """
    return OPEN_RATE * min(1.0, OPEN_WIDTH / d_model)


def continued(train: ConfigDict, d_model: int, is_open: bool) -> float:
    """The peak of pretraining that goes on from a trained model.

    Args:
      is_open: whether others trained it, so that `train.learning_rate` was never its rate.
    """
    if train.init_learning_rate:
        return train.init_learning_rate
    return of_open(d_model) if is_open else train.learning_rate / FEWER
