"""How often a plan of draws repeats the windows of the generic text, and a cap on it.

W draws from a distribution p over clusters of n_c windows are expected to draw each window of
cluster c W p_c / n_c times. Up to about four times text is nearly as good as new text (Muennighoff
et al. 2023, arXiv 2305.16264). `capped` changes p so that no window is expected more often than a
given number of times; what is cut off goes to the text nearest by. Plain NumPy in float64;
docs/methods.md, Repetition, has the equations.
"""

from dataclasses import dataclass, field

import numpy as np

from specialm.clustering import levels
from specialm.common.errors import UserError

WORTH = 15.387756  # R* of arXiv 2305.16264, appendix A: how fast repeated text loses its worth
NEARLY_NEW = 4.0  # repetitions up to which text is nearly as good as new text
SIBLINGS, RELATIVES, NEIGHBOURS, GENERIC = "siblings", "relatives", "neighbours", "generic"


@dataclass(frozen=True)
class Capped:
    """A distribution over clusters under a cap.

    Attributes:
      probability_K: float64 [K], of each cluster.
      moved: share of the draws that was cut off, by where it went: children of the same parent,
        farther relatives in the tree, the nearest clusters, all of the generic text.
      short: the whole text is too small for the budget at this cap; all windows are drawn alike.

    """

    probability_K: np.ndarray
    moved: dict[str, float] = field(default_factory=dict)
    short: bool = False


@dataclass(frozen=True)
class Expected:
    """Repetitions that a plan of draws is expected to make.

    Attributes:
      draws: W, windows drawn.
      mean: over the draws: how often the window of a draw is drawn in all.
      most: of a window of the most drawn cluster.
      above: share of the draws that are of windows drawn more often than `budget`.
      budget: repetitions allowed; `NEARLY_NEW` without a cap.

    """

    draws: int
    mean: float
    most: float
    above: float
    budget: float


@dataclass(frozen=True)
class Budget:
    """What caps repetitions, beside the number of draws.

    Attributes:
      max_repetitions: expected draws of a window, at most; 0 or infinity for no cap.
      uniform: part of the draws, 0 to 1, that is spent on windows drawn uniformly.
      centroids_KxD: of the clusters; None: what is cut off goes to all of the text alike.
      branching: of the tree whose leaves the clusters are; () if there is none.

    """

    max_repetitions: float = 0.0
    uniform: float = 0.0
    centroids_KxD: np.ndarray | None = None
    branching: tuple[int, ...] = ()

    @property
    def caps(self) -> bool:
        """Whether there is a cap."""
        return 0 < self.max_repetitions < np.inf

    def mixed(self, probability_K: np.ndarray, counts_K: np.ndarray) -> np.ndarray:
        """Return float64 [K]: of all draws, the uniform ones among them."""
        if not self.uniform:
            return probability_K
        return self.uniform * counts_K / counts_K.sum() + (1 - self.uniform) * probability_K

    def capped(
        self, probability_K: np.ndarray, counts_K: np.ndarray, draws: float, most: float = 1.0
    ) -> Capped:
        """Return the capped distribution of the draws that are not uniform; `moved` is of all.

        Args:
          probability_K: of the draws that are not uniform.
          counts_K: windows in each cluster.
          draws: W, the uniform ones included.
          most: probability of any cluster, at most.

        """
        if not self.caps or not draws:
            return Capped(probability_K)
        probability_K = np.asarray(probability_K, np.float64) / np.sum(probability_K)
        all_K = self.mixed(probability_K, counts_K)
        affinity_K = None
        if self.centroids_KxD is not None and not self.branching:
            affinity_K = affinity(self.centroids_KxD, probability_K, counts_K)
        found = capped(
            all_K, counts_K, draws, self.max_repetitions, families(self.branching), affinity_K, most
        )
        if not found.moved:
            return Capped(probability_K)
        own_K = found.probability_K - self.uniform * counts_K / counts_K.sum()
        own_K = np.maximum(own_K, 0.0)
        return Capped(own_K / own_K.sum(), found.moved, found.short)


def expected(
    probability_K: np.ndarray, counts_K: np.ndarray, draws: int, max_repetitions: float = 0.0
) -> Expected:
    """Return the repetitions to expect.

    Args:
      probability_K: of all draws.
      counts_K: windows in each cluster.
      draws: W.
      max_repetitions: the cap; 0 or infinity for none.

    """
    rate_K = rates(probability_K, counts_K, draws)
    budget = max_repetitions if 0 < max_repetitions < np.inf else NEARLY_NEW
    above_K = rate_K > budget * (1 + 1e-9)
    return Expected(
        draws,
        float(probability_K @ rate_K),
        float(rate_K.max()),
        float(probability_K[above_K].sum()),
        budget,
    )


def worth(rate_K: np.ndarray, tokens_K: np.ndarray) -> np.ndarray:
    """Return float64 [K]: new tokens that repeated ones are worth, U + U R* (1 - exp(-R / R*)) with
    R repetitions after the first time (arXiv 2305.16264, equation 5, here cluster by cluster, which
    its fit was not made for).

    Args:
      rate_K: expected draws of a window, see `rates`.
      tokens_K: tokens of each cluster.

    """
    again_K = np.maximum(np.asarray(rate_K) - 1, 0.0)
    return tokens_K * (np.minimum(rate_K, 1.0) + WORTH * -np.expm1(-again_K / WORTH))


def rates(probability_K: np.ndarray, counts_K: np.ndarray, draws: float) -> np.ndarray:
    """Return float64 [K]: expected draws of a window of each cluster; 0 where there is none."""
    counts_K = np.asarray(counts_K, np.float64)
    return draws * np.asarray(probability_K) / np.where(counts_K > 0, counts_K, np.inf)


def capped(
    probability_K: np.ndarray,
    counts_K: np.ndarray,
    draws: float,
    max_repetitions: float,
    families_K: tuple[np.ndarray, ...] = (),
    affinity_K: np.ndarray | None = None,
    most: float = 1.0,
) -> Capped:
    """Return the distribution with no window expected more than `max_repetitions` times.

    Clusters above the limit m n_c / W are cut to it. What is cut off fills the room below the limit
    of the clusters nearest by: those of the same family, then of the larger families in turn, then
    cluster by cluster from the highest affinity, or all of the text at once. Clusters filled at
    once are filled to the same fraction of their room.

    Args:
      probability_K: of each cluster; sums to 1.
      counts_K: n_c, windows in each cluster.
      draws: W.
      max_repetitions: m; 0 or infinity for no cap.
      families_K: int [K] each, the family of each cluster: small ones first, each within one of
        the next.
      affinity_K: the higher, the sooner a cluster is filled; None fills all at once.
      most: probability of any cluster, at most.

    Raises:
      UserError: a cluster with positive probability has no window.

    """
    probability_K, counts_K = np.asarray(probability_K, np.float64), np.asarray(counts_K)
    if (probability_K[counts_K == 0] > 0).any():
        raise UserError("a cluster that is drawn from has no window, so no cap can be met.")
    if not 0 < max_repetitions < np.inf:
        return Capped(probability_K)
    uniform_K = counts_K / counts_K.sum()
    limit_K = np.minimum(uniform_K * (max_repetitions * counts_K.sum() / draws), most)
    excess_K = np.maximum(probability_K - limit_K, 0.0)
    if not excess_K.any():
        return Capped(probability_K)
    if min(max_repetitions * counts_K.sum() / draws, float(limit_K.sum())) <= 1:
        short = max_repetitions * counts_K.sum() < draws or limit_K.sum() < 1
        moved = float(np.maximum(probability_K - uniform_K, 0.0).sum())
        return Capped(uniform_K, {GENERIC: moved}, short)
    return _spilled(np.minimum(probability_K, limit_K), limit_K, excess_K, families_K, affinity_K)


def _spilled(
    kept_K: np.ndarray,
    limit_K: np.ndarray,
    excess_K: np.ndarray,
    families_K: tuple[np.ndarray, ...],
    affinity_K: np.ndarray | None,
) -> Capped:
    """The distribution `kept_K` with the excess put where there is room."""
    moved: dict[str, float] = {}
    for number, family_K in enumerate(families_K):
        kept_K, excess_K, placed = _within(family_K, kept_K, limit_K, excess_K)
        name = RELATIVES if number else SIBLINGS
        moved[name] = moved.get(name, 0.0) + placed
    name, ring_K = GENERIC, np.zeros(len(kept_K), np.int64)
    if affinity_K is not None:
        name, ring_K = NEIGHBOURS, np.unique(-affinity_K, return_inverse=True)[1]
    left = float(excess_K.sum())
    return Capped(_in_order(ring_K, kept_K, limit_K, left), {**moved, name: left})


def _within(
    family_K: np.ndarray, kept_K: np.ndarray, limit_K: np.ndarray, excess_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Every family's excess into its own room.

    Returns:
      (distribution [K], excess that found no room [K], share that found room)

    """
    room_P = np.bincount(family_K, limit_K - kept_K)
    excess_P = np.bincount(family_K, excess_K)
    placed_P = np.minimum(excess_P, room_P)
    kept_K = _filled(family_K, kept_K, limit_K, placed_P, room_P)
    left_P = (excess_P - placed_P) / np.where(excess_P > 0, excess_P, 1.0)
    return kept_K, excess_K * left_P[family_K], float(placed_P.sum())


def _in_order(
    ring_K: np.ndarray, kept_K: np.ndarray, limit_K: np.ndarray, excess: float
) -> np.ndarray:
    """The distribution with the excess in the rooms of ring 0, then of ring 1, ..."""
    room_P = np.bincount(ring_K, limit_K - kept_K)
    before_P = np.cumsum(room_P) - room_P
    placed_P = np.clip(excess - before_P, 0.0, room_P)
    return _filled(ring_K, kept_K, limit_K, placed_P, room_P)


def _filled(group_K, kept_K, limit_K, placed_P, room_P) -> np.ndarray:
    """Every cluster of a group filled to the same fraction of its room."""
    fraction_P = placed_P / np.where(room_P > 0, room_P, 1.0)
    return np.minimum(kept_K + fraction_P[group_K] * (limit_K - kept_K), limit_K)


def families(branching: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Return int [K] for each level of a tree above the leaves, deepest first: their ancestors."""
    leaf_K = np.arange(levels.nodes(branching) if branching else 0)
    return tuple(
        levels.ancestors(leaf_K, branching, level) for level in range(len(branching) - 1, 0, -1)
    )


def affinity(
    centroids_KxD: np.ndarray, probability_K: np.ndarray, counts_K: np.ndarray
) -> np.ndarray:
    """Return how near each cluster is to the text that a distribution aims at, float64 [K].

    It is the log density of the aimed-at clusters at the centroid: log sum_j p_j exp(-d_cj^2 / h),
    with the squared distances d^2 of centroids and h the mean of those from an aimed-at cluster to
    the nearest other one (our reading).
    """
    aimed, there = np.flatnonzero(probability_K), np.asarray(counts_K) > 0
    squared_Kxa = _squared_distances(np.asarray(centroids_KxD, np.float64), aimed)
    other_Kxa = np.where(there[:, None], squared_Kxa, np.inf)
    other_Kxa[aimed, np.arange(len(aimed))] = np.inf
    nearest_a = other_Kxa.min(0)
    p_a = probability_K[aimed]
    width = float(p_a @ nearest_a) if np.isfinite(nearest_a).all() else 1.0
    exponent_Kxa = np.log(p_a) - squared_Kxa / max(width, 1e-12)
    top_K = exponent_Kxa.max(1)
    return top_K + np.log(np.exp(exponent_Kxa - top_K[:, None]).sum(1))


def _squared_distances(x_KxD: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    norm_K = (x_KxD**2).sum(1)
    squared_Kxa = norm_K[:, None] + norm_K[chosen] - 2 * x_KxD @ x_KxD[chosen].T
    return np.maximum(squared_Kxa, 0.0)
