"""The control of importance sampling: as uneven as it, but of other text. NumPy in float64.

A plain shuffle of the clusters' probabilities makes small clusters likely, whose windows are then
repeated more often than importance sampling repeats any: a loss of the control may be one of
repetition. Here a cluster gets the weight of another one of like size, and the weights are made a
little more or less uneven until all draws together are worth as many windows. docs/methods.md has
the equations.
"""

import numpy as np

from specialm.clustering.weights import WeightReport

BLOCK = 16  # clusters of like size that exchange their weights
STEEPEST = 64.0  # power of the weights, at most
TURNS = 80  # of a bisection
BELOW = 1 - 1e-9  # of the cap: rounding must not reach beyond it


def matched(report: WeightReport, seed: int) -> np.ndarray:
    """Return float64 [K]: the probability of drawing each cluster.

    Args:
      report: the weights of importance sampling, whose cap holds here too.
      seed: of the exchange.
    """
    counts_K = np.asarray(report.generic_counts_K, np.float64)
    there = np.flatnonzero(counts_K)
    n_k, own_k = counts_K[there], report.capped.probability_K[there]
    # Those before the cap tell apart what it has made equal.
    rate_k = exchanged((own_k + report.sampling_K[there]) / (2 * n_k), n_k, seed)
    probability_K = np.zeros(len(counts_K))
    wanted = float((own_k**2 / n_k).sum())
    probability_K[there] = _as_uneven(rate_k, n_k, wanted, _limit(report))
    return probability_K


def exchanged(rate_k: np.ndarray, counts_k: np.ndarray, seed: int) -> np.ndarray:
    """Return the rates, each at another cluster of like size.

    The clusters in the order of their sizes are cut into blocks; in each the rates move along a
    random circle, so that no cluster keeps its own, where there are two.
    """
    rng = np.random.default_rng([seed, len(rate_k), BLOCK])
    order_k = np.argsort(counts_k, kind="stable")
    moved_k = rate_k.copy()
    for block in np.array_split(order_k, max(1, len(order_k) // BLOCK)):
        circle = rng.permutation(block)
        moved_k[circle] = rate_k[np.roll(circle, 1)]
    return moved_k


def _limit(report: WeightReport) -> float:
    """Probability of one window, at most, of the draws that are not uniform."""
    budget, windows = report.budget, float(report.generic_counts_K.sum())
    if not budget.caps or not report.planned_windows or budget.uniform == 1:
        return np.inf
    of_all = budget.max_repetitions / report.planned_windows
    return BELOW * (of_all - budget.uniform / windows) / (1 - budget.uniform)


def _as_uneven(rate_k: np.ndarray, n_k: np.ndarray, wanted: float, limit: float) -> np.ndarray:
    """Return n min(limit, s rate^t), summing to 1, whose sum of p^2 / n is `wanted` or, where no t
    gives that, nearest to it.
    """
    low, high = 0.0, STEEPEST
    top = rate_k.max()
    for _ in range(TURNS):
        t = (low + high) / 2
        shape_k = np.where(rate_k > 0, (rate_k / top) ** t, 0.0)
        p_k = n_k * _scaled(shape_k, n_k, limit)
        low, high = (t, high) if (p_k**2 / n_k).sum() < wanted else (low, t)
    return p_k / p_k.sum()


def _scaled(shape_k: np.ndarray, n_k: np.ndarray, limit: float) -> np.ndarray:
    """Return min(limit, s shape), n times it summing to 1, or as near as the limit lets."""
    if limit == np.inf:
        return shape_k / (n_k @ shape_k)
    # From the highest down: with the first i at the limit, s is what is left over the others.
    order_k = np.argsort(-shape_k, kind="stable")
    n_i, shape_i = n_k[order_k], shape_k[order_k]
    left_i = 1 - limit * (np.cumsum(n_i) - n_i)
    mass_i = np.cumsum((n_i * shape_i)[::-1])[::-1]
    s_i = left_i / np.where(mass_i > 0, mass_i, np.inf)
    fits = np.flatnonzero((s_i * shape_i <= limit) & (mass_i > 0))
    s = s_i[fits[0]] if len(fits) and s_i[fits[0]] >= 0 else np.inf
    return np.where(shape_k > 0, np.minimum(limit, s * np.where(shape_k > 0, shape_k, 1.0)), 0.0)
