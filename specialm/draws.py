"""The distributions over the windows of the generic text that models are pretrained on.

A distribution is one small class, a subclass of `Draws`; a new way to weigh clusters is less, one
function for `Weighted`. Methods (`methods.py`) name the distribution that they draw from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import levels
from specialm.clustering.weights import WeightReport
from specialm.common.errors import UserError
from specialm.common.stages import digest
from specialm.data.groups import ExpertSampler, GroupSampler, HistogramSampler, MixtureSampler
from specialm.data.sampler import BatchSampler, Sampler

if TYPE_CHECKING:  # it imports JAX, which a config is read without
    from specialm.clustering.clusters import Clusters

T = TypeVar("T")
Rule = Callable[[WeightReport, int], np.ndarray]  # (a domain's weights, seed) -> probability_K


@dataclass(frozen=True)
class Source:
    """What windows are drawn from.

    Attributes:
      windows: N, of the generic text.
      clusters: as many as the draws need; None if they need none.
      features_KxC: float32, the features of each cluster that a bank reads; None without a bank.
      weights: importance weights of the domain that is aimed at; None if none is.
    """

    windows: int
    clusters: "Clusters | None" = None
    features_KxC: np.ndarray | None = None
    weights: WeightReport | None = None


def _needed(part: T | None) -> T:
    """A part of a `Source`.

    Raises:
      ValueError: it was left out.
    """
    if part is None:
        raise ValueError("a part of the source that these draws need was left out")
    return part


@dataclass(frozen=True)
class Draws:
    """A distribution over windows.

    Attributes:
      aims: whether it aims at one domain, whose weights it is given.
      settings: dotted names of the settings that it has a use for and others have not; a model is
        trained anew when one of them changes.
    """

    aims: ClassVar[bool] = False
    settings: ClassVar[tuple[str, ...]] = ()

    def clusters(self, config: ConfigDict) -> tuple[int, str]:
        """(how many clusters it needs, the setting that says so); (0, "") if none."""
        return 0, ""

    def check(self, config: ConfigDict) -> None:
        """Raises UserError for settings that it cannot work with."""

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """The windows of every step.

        Raises:
          UserError: a cluster is drawn from that has no windows.
        """
        raise NotImplementedError

    def key(self, source: Source, seed: int) -> list[str]:
        """What it depends on, besides text, settings and seed; a changed one trains anew."""
        clusters = [source.clusters.fingerprint] if source.clusters else []
        return clusters + ([digest(source.weights.sampling_K)] if source.weights else [])


@dataclass(frozen=True)
class Uniform(Draws):
    """All windows alike."""

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> Sampler:
        """See `Draws`."""
        return Sampler(source.windows, config.train.batch_size, seed)


def importance(weights: WeightReport, seed: int) -> np.ndarray:
    """float64 [K]: each cluster as often as in the domain's own text."""
    return weights.sampling_K


def shuffled(weights: WeightReport, seed: int) -> np.ndarray:
    """float64 [K]: those of `importance`, shuffled between the clusters anew for each seed."""
    return weights.shuffled(seed)


@dataclass(frozen=True)
class Weighted(Draws):
    """A cluster by its probability for one domain, then a window uniformly inside it.

    Attributes:
      rule: (the domain's importance weights, seed) -> float64 [K], the probabilities.
    """

    rule: Rule = importance
    aims: ClassVar[bool] = True

    def clusters(self, config: ConfigDict) -> tuple[int, str]:
        """See `Draws`."""
        clustering = config.clustering
        if clustering.method == "tree":
            nodes = levels.nodes(clustering.branching, clustering.level)
            return nodes, "clustering.branching"
        return clustering.k, "clustering.k"

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> Sampler:
        """See `Draws`."""
        cluster_N = _needed(source.clusters).generic_N
        probability_K = self.rule(_needed(source.weights), seed)
        return Sampler(source.windows, config.train.batch_size, seed, cluster_N, probability_K)

    def key(self, source: Source, seed: int) -> list[str]:
        """See `Draws`."""
        probability_K = self.rule(_needed(source.weights), seed)
        return [_needed(source.clusters).fingerprint, digest(probability_K)]


@dataclass(frozen=True)
class _ForExperts(Draws):
    """Of a model that holds an expert for each of `model.num_experts` clusters."""

    def clusters(self, config: ConfigDict) -> tuple[int, str]:
        """See `Draws`."""
        return config.model.num_experts, "model.num_experts"

    def check(self, config: ConfigDict) -> None:
        """See `Draws`."""
        if config.clustering.method == "tree":
            levels.of_size(config.clustering.branching, *self.clusters(config))


@dataclass(frozen=True)
class ByCluster(_ForExperts):
    """Groups of windows of one cluster each; the model reads the cluster's features."""

    settings: ClassVar[tuple[str, ...]] = ("train.groups",)

    def check(self, config: ConfigDict) -> None:
        """See `Draws`."""
        super().check(config)
        train = config.train
        if train.batch_size % train.groups:
            raise UserError(
                f"train.groups={train.groups} does not divide train.batch_size={train.batch_size}."
            )

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """See `Draws`."""
        clusters, train = _needed(source.clusters), config.train
        return GroupSampler(
            source.windows,
            train.batch_size,
            seed,
            clusters.generic_N,
            clusters.share_K,
            train.groups,
            _needed(source.features_KxC),
        )


@dataclass(frozen=True)
class ByHistogram(ByCluster):
    """Groups of windows from a random histogram each; the model reads the histogram."""

    settings: ClassVar[tuple[str, ...]] = ("train.groups", "train.histogram_support")

    def check(self, config: ConfigDict) -> None:
        """See `Draws`."""
        super().check(config)
        support, k = config.train.histogram_support, config.model.num_experts
        if support > k:
            raise UserError(
                f"train.histogram_support={support}: there are only model.num_experts={k} clusters."
            )

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """See `Draws`."""
        clusters, train = _needed(source.clusters), config.train
        return HistogramSampler(
            train.batch_size,
            seed,
            clusters.generic_N,
            clusters.share_K,
            train.histogram_support,
            train.groups,
        )


@dataclass(frozen=True)
class ByExpert(_ForExperts):
    """As many windows of every cluster, each for its own expert; or those of
    `model.only_expert`.
    """

    def check(self, config: ConfigDict) -> None:
        """See `Draws`."""
        super().check(config)
        batch_size, k = config.train.batch_size, config.model.num_experts
        if batch_size % k:
            raise UserError(
                f"train.batch_size={batch_size} is not a multiple of model.num_experts={k}; "
                "every expert takes the same number of windows."
            )

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """See `Draws`."""
        clusters, batch_size = _needed(source.clusters), config.train.batch_size
        k, only = len(clusters.share_K), config.model.only_expert
        if only < 0:
            return MixtureSampler(batch_size, seed, clusters.generic_N, k)
        return ExpertSampler(batch_size // k, seed, clusters.generic_N, only)
