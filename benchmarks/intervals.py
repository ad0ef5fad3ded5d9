"""The 95% interval of a mean, by Student's t."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def interval(values: np.ndarray) -> list[float]:
    """[mean, half of its 95% interval] of two values or more."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [values.mean(), half]


def shown(values: Sequence[float], form: str = ".3f") -> str:
    """The mean with its 95% interval, where there are two values or more; each number as `form`
    says.
    """
    if len(values) < 2:
        return f"{values[0]:{form}}"
    mean, half = interval(np.array(values))
    return f"{mean:{form}} ± {half:{form.lstrip('+')}}"
