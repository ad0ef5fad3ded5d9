"""The 95% interval of a mean, by Student's t."""

import numpy as np
from scipy import stats


def interval(values: np.ndarray) -> list[float]:
    """[mean, half of its 95% interval] of two values or more."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [values.mean(), half]
