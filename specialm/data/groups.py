"""Samplers of models that hold many models: every draw says which one it is for.

Like `Sampler` they are pure functions of (seed, step).
"""

import numpy as np

from specialm.common.errors import UserError
from specialm.data.sampler import Sampler


def _windows_of_group(batch_size: int, groups: int) -> int:
    if groups < 1 or batch_size % groups:
        raise UserError(f"train.groups={groups} does not divide train.batch_size={batch_size}.")
    return batch_size // groups


class GroupSampler(Sampler):
    """G groups a step of B/G windows of one cluster each.

    Args:
      groups: G.
      features_KxC: of each cluster, read by a bank.
      Others: see `Sampler`.

    """

    def __init__(
        self,
        windows: int,
        batch_size: int,
        seed: int,
        cluster_N: np.ndarray,
        probability_K: np.ndarray,
        groups: int,
        features_KxC: np.ndarray,
    ):
        super().__init__(
            windows,
            batch_size,
            seed,
            cluster_N,
            probability_K,
            _windows_of_group(batch_size, groups),
        )
        self.features_KxC = np.asarray(features_KxC, np.float32)

    @property
    def num_groups(self) -> int:
        """G."""
        return self.batch_size // self.group

    def features(self, step: int) -> np.ndarray:
        """float32 [G, C]: of each group of this step."""
        first = step * self.num_groups
        return self.features_KxC[self.draws(first, first + self.num_groups)[1]]


class HistogramSampler:
    """Each group of a step draws a sparse histogram over the clusters and its windows from that
    (Soup-of-Experts, arXiv 2502.01804: "meta-distribution"; published with one group).

    Our reading of it: `support` clusters, drawn without replacement in proportion to their share
    of the corpus, with uniform weights on the simplex. A cluster gets its share of the W windows
    by systematic resampling; inside a cluster windows are drawn with replacement.

    Args:
      support: clusters with weight in a histogram.
      groups: G.
      exact: draw the support by systematic sampling in random order, so that a cluster has exactly
        `probability_K` of the draws in expectation; it must be at most 1 / support.
      Others: see `Sampler`.

    """

    def __init__(
        self,
        batch_size: int,
        seed: int,
        cluster_N: np.ndarray,
        probability_K: np.ndarray,
        support: int,
        groups: int = 1,
        exact: bool = False,
    ):
        clusters = np.flatnonzero(probability_K)
        if not 1 <= support <= len(clusters):
            raise UserError(
                f"train.histogram_support={support}: must be between 1 and the "
                f"{len(clusters)} clusters that have windows."
            )
        self.batch_size, self.seed, self.support, self.exact = batch_size, seed, support, exact
        self.num_groups, self.group = groups, _windows_of_group(batch_size, groups)
        self.probability_K = np.asarray(probability_K, np.float64) / np.sum(probability_K)
        self.size_K = np.bincount(cluster_N, minlength=len(probability_K)).astype(np.int64)
        self._members = np.argsort(cluster_N, kind="stable")
        self._first_K = np.concatenate([[0], np.cumsum(self.size_K)[:-1]])

    def _support(self, rng: np.random.Generator) -> np.ndarray:
        """The clusters of a histogram."""
        if not self.exact:
            return rng.choice(
                len(self.probability_K), self.support, replace=False, p=self.probability_K
            )
        order = rng.permutation(len(self.probability_K))
        edges = np.cumsum(self.probability_K[order])
        points = (np.arange(self.support) + rng.random()) / self.support * edges[-1]
        return order[np.searchsorted(edges, points, side="right")]

    def _draw(self, step: int, group: int) -> tuple[np.ndarray, np.ndarray]:
        """(histogram [K], windows [W]) of a group."""
        rng = np.random.default_rng([self.seed, step, 2, group])
        chosen = self._support(rng)
        histogram_K = np.zeros(len(self.probability_K))
        histogram_K[chosen] = rng.dirichlet(np.ones(self.support))
        edges = np.cumsum(histogram_K)
        points = (np.arange(self.group) + rng.random()) / self.group * edges[-1]
        cluster_W = np.searchsorted(edges, rng.permutation(points), side="right")
        member_W = (rng.random(self.group) * self.size_K[cluster_W]).astype(np.int64)
        return histogram_K, self._members[self._first_K[cluster_W] + member_W]

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        return np.concatenate([self._draw(step, group)[1] for group in range(self.num_groups)])

    def features(self, step: int) -> np.ndarray:
        """float32 [G, K]: the histograms of this step."""
        histograms = [self._draw(step, group)[0] for group in range(self.num_groups)]
        return np.stack(histograms).astype(np.float32)


class MixtureSampler:
    """B/K windows a step for every expert, in the order of the experts.

    Args:
      probability_KxK: a row for each expert, see `ExpertSampler`; None: its own cluster alone.
      epoch: see `ExpertSampler`.
      Others: see `Sampler`.

    """

    num_groups = 1  # windows share no features

    def __init__(
        self,
        batch_size: int,
        seed: int,
        cluster_N: np.ndarray,
        clusters: int,
        probability_KxK: np.ndarray | None = None,
        epoch: int = 0,
    ):
        if batch_size % clusters:
            raise UserError(
                f"train.batch_size={batch_size} is not a multiple of model.num_experts"
                f"={clusters}; every expert takes the same number of windows."
            )
        self.batch_size = batch_size
        self.experts = [
            ExpertSampler(
                batch_size // clusters,
                seed,
                cluster_N,
                expert,
                None if probability_KxK is None else probability_KxK[expert],
                epoch,
            )
            for expert in range(clusters)
        ]

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        return np.concatenate([expert.indices(step) for expert in self.experts])

    def features(self, step: int) -> None:
        """None: there are none."""


class ExpertSampler(Sampler):
    """The windows of one expert of a mixture: those of its own cluster, or of a distribution.

    Args:
      expert: its number, and that of its cluster.
      probability_K: of the clusters that it draws from; None for its own alone.
      epoch: see `Sampler`; with `probability_K`.
      Others: see `Sampler`.

    Raises:
      UserError: its cluster has no windows.

    """

    def __init__(
        self,
        batch_size: int,
        seed: int,
        cluster_N: np.ndarray,
        expert: int,
        probability_K: np.ndarray | None = None,
        epoch: int = 0,
    ):
        of_expert = cluster_N == expert
        if not of_expert.any():
            raise UserError(
                f"cluster {expert} has no windows, so expert {expert} cannot be "
                "trained; choose a smaller model.num_experts."
            )
        seed = seed * 1_000_003 + expert
        if probability_K is None or probability_K[expert] == 1:
            self.members = np.flatnonzero(of_expert)
            super().__init__(len(self.members), batch_size, seed)
        else:
            self.members = np.flatnonzero(probability_K[cluster_N] > 0)
            super().__init__(
                len(self.members),
                batch_size,
                seed,
                cluster_N[self.members],
                probability_K,
                epoch=epoch,
            )

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        return self.members[super().indices(step)]
