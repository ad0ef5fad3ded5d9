"""The distributions over the windows of the generic text that models are pretrained on.

A distribution is one small class, a subclass of `Draws`; a new way to weigh clusters is less, one
function for `Weighted`. Methods (`methods.py`) name the distribution that they draw from.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import control, levels
from specialm.clustering.repetition import Budget, Capped
from specialm.clustering.weights import WeightReport
from specialm.common.errors import UserError
from specialm.common.stages import digest
from specialm.data.groups import ExpertSampler, GroupSampler, HistogramSampler, MixtureSampler
from specialm.data.likeness import Likeness
from specialm.data.mixed import Late
from specialm.data.sampler import BatchSampler, Sampler, with_replay

if TYPE_CHECKING:  # it imports JAX, which a config is read without
    from specialm.clustering.clusters import Clusters

Shares = tuple[np.ndarray, np.ndarray]  # float64 [K], share of all draws; [K], windows
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
      likeness: of the windows to the text of that domain; None if it is not asked for.
      planned: W, windows that are drawn in all; 0 if not known, then nothing is capped.
      budget: what caps repetitions. Its uniform part are the draws of a mixture's trunk.
    """

    windows: int
    clusters: "Clusters | None" = None
    features_KxC: np.ndarray | None = None
    weights: WeightReport | None = None
    likeness: Likeness | None = None
    planned: int = 0
    budget: Budget = Budget()


def needed(part: T | None) -> T:
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
      by_likeness: whether it is given the windows' likeness to that domain instead.
      settings: dotted names of the settings that it has a use for and others have not; a model is
        trained anew when one of them changes.
    """

    aims: ClassVar[bool] = False
    by_likeness: ClassVar[bool] = False
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

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """How often each cluster is drawn, to say how often windows are repeated; None if that is
        not known.
        """
        return None

    def key(self, config: ConfigDict, source: Source, seed: int) -> list[str]:
        """What it depends on, besides text, settings and seed; a changed one trains anew."""
        clusters = [source.clusters.fingerprint] if source.clusters else []
        return clusters + ([digest(source.weights.sampling_K)] if source.weights else [])


@dataclass(frozen=True)
class Uniform(Draws):
    """All windows alike."""

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> Sampler:
        """See `Draws`."""
        return Sampler(source.windows, config.train.batch_size, seed)

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """See `Draws`."""
        return np.ones(1), np.array([source.windows])


def importance(weights: WeightReport, seed: int) -> np.ndarray:
    """float64 [K]: each cluster as often as in the domain's own text."""
    return weights.sampling_K


def shuffled(weights: WeightReport, seed: int) -> np.ndarray:
    """float64 [K]: those of `importance`, exchanged between clusters of like size anew for each
    seed; all draws together are worth as many windows.
    """
    return control.matched(weights, seed)


@dataclass(frozen=True)
class Weighted(Draws):
    """A cluster by its probability for one domain, then a window uniformly inside it.

    Whatever the rule, `clustering.max_repetitions` caps its probabilities,
    `train.importance_start` lets uniform draws come first, and of those that follow
    `train.replay_fraction` are uniform.

    Attributes:
      rule: (the domain's importance weights, seed) -> float64 [K], the probabilities.
    """

    rule: Rule = importance
    aims: ClassVar[bool] = True

    def capped(self, source: Source, seed: int) -> Capped:
        """The rule's probabilities within the budget of repetitions."""
        weights = needed(source.weights)
        return weights.cap(self.rule(weights, seed))

    def clusters(self, config: ConfigDict) -> tuple[int, str]:
        """See `Draws`."""
        clustering = config.clustering
        if clustering.method == "tree":
            nodes = levels.nodes(clustering.branching, clustering.level)
            return nodes, "clustering.branching"
        return clustering.k, "clustering.k"

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """See `Draws`."""
        clusters, weights = needed(source.clusters), needed(source.weights)
        batch_size, capped_K = config.train.batch_size, self.capped(source, seed).probability_K
        probability_K = with_replay(
            capped_K, weights.generic_counts_K, config.train.replay_fraction
        )
        weighted = Sampler(
            source.windows, batch_size, seed, clusters.generic_N, probability_K, epoch=weights.epoch
        )
        first = round(config.train.importance_start * weights.planned_windows / batch_size)
        uniform = Sampler(source.windows, batch_size, seed)
        return Late(uniform, weighted, first) if first else weighted

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """See `Draws`."""
        weights, probability_K = needed(source.weights), self.capped(source, seed).probability_K
        counts_K = weights.generic_counts_K
        return weights.budget.mixed(probability_K, counts_K), counts_K

    def key(self, config: ConfigDict, source: Source, seed: int) -> list[str]:
        """See `Draws`."""
        weights, probability_K = needed(source.weights), self.capped(source, seed).probability_K
        more = {
            "epoch": weights.epoch,
            "uniform": weights.budget.uniform,
            "replay": config.train.replay_fraction,
        }
        return [
            needed(source.clusters).fingerprint,
            digest(probability_K),
            *(f"{name} {value}" for name, value in more.items() if value),
        ]


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

    def _counts_K(self, source: Source) -> np.ndarray:
        """float64 [K]: windows of each cluster."""
        return np.rint(needed(source.clusters).share_K * source.windows)


@dataclass(frozen=True)
class ByCluster(_ForExperts):
    """Groups of windows of one cluster each; the model reads the cluster's features.

    Clusters are drawn as often as the text has them, so that all windows are repeated alike and
    there is nothing to cap.
    """

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
        clusters, train = needed(source.clusters), config.train
        return GroupSampler(
            source.windows,
            train.batch_size,
            seed,
            clusters.generic_N,
            clusters.share_K,
            train.groups,
            needed(source.features_KxC),
        )

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """See `Draws`."""
        return needed(source.clusters).share_K, self._counts_K(source)


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

    def capped(self, config: ConfigDict, source: Source) -> Capped:
        """The share of the draws that each cluster has, within the budget of repetitions; without
        a cap it is between the share of the text and the same for all.
        """
        support = config.train.histogram_support
        share_K = _share_of_support(needed(source.clusters).share_K, support)
        return source.budget.capped(share_K, self._counts_K(source), source.planned, 1 / support)

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """See `Draws`."""
        clusters, train, capped = (
            needed(source.clusters),
            config.train,
            self.capped(config, source),
        )
        cut = bool(capped.moved)
        return HistogramSampler(
            train.batch_size,
            seed,
            clusters.generic_N,
            capped.probability_K if cut else clusters.share_K,
            train.histogram_support,
            train.groups,
            exact=cut,
        )

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """See `Draws`."""
        return self.capped(config, source).probability_K, self._counts_K(source)

    def key(self, config: ConfigDict, source: Source, seed: int) -> list[str]:
        """See `Draws`."""
        capped, key = self.capped(config, source), super().key(config, source, seed)
        return [*key, digest(capped.probability_K)] if capped.moved else key


def _share_of_support(share_K: np.ndarray, support: int) -> np.ndarray:
    """Of `support` clusters drawn in proportion to their share without replacement, the share that
    each cluster has: (1 - exp(-t share)) / support, with t such that they sum to 1 (Rosén 1972;
    off by some percent of it where there are few clusters).
    """
    low, high = 0.0, 1e12
    for _ in range(200):
        t = (low + high) / 2
        low, high = (low, t) if -np.expm1(-t * share_K).sum() > support else (t, high)
    included_K = -np.expm1(-high * share_K)
    return included_K / included_K.sum()


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

    def capped(self, config: ConfigDict, source: Source) -> list[Capped]:
        """The distribution over clusters that each expert draws from: its own alone, but where a
        cluster is too small for the budget of repetitions the nearest text as well.

        What an expert sees of a window are its own draws and those of the trunk that it starts
        from.
        """
        counts_K, budget = self._counts_K(source), source.budget
        k, trunk = len(counts_K), budget.uniform * source.planned
        seen = trunk + (source.planned - trunk) / k
        of_expert = replace(budget, uniform=trunk / seen if seen else 0.0)
        experts = np.flatnonzero(counts_K)
        return [
            of_expert.capped(own_K, counts_K, seen) if expert in experts else Capped(own_K)
            for expert, own_K in enumerate(np.eye(k))
        ]

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> BatchSampler:
        """See `Draws`."""
        clusters, batch_size = needed(source.clusters), config.train.batch_size
        k, only = len(clusters.share_K), config.model.only_expert
        rows_KxK = np.stack([expert.probability_K for expert in self.capped(config, source)])
        epoch = round(source.planned * (1 - source.budget.uniform) / k)
        if only < 0:
            return MixtureSampler(batch_size, seed, clusters.generic_N, k, rows_KxK, epoch)
        row_K = rows_KxK[only]
        return ExpertSampler(batch_size // k, seed, clusters.generic_N, only, row_K, epoch)

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """See `Draws`: of each expert in turn, [K K], for every expert has parameters of its own.
        The draws of the trunk are not counted.
        """
        rows_KxK = np.stack([expert.probability_K for expert in self.capped(config, source)])
        counts_K = self._counts_K(source)
        return (rows_KxK / len(counts_K)).reshape(-1), np.tile(counts_K, len(counts_K))

    def key(self, config: ConfigDict, source: Source, seed: int) -> list[str]:
        """See `Draws`."""
        capped, key = self.capped(config, source), super().key(config, source, seed)
        if not any(expert.moved for expert in capped):
            return key
        return [*key, digest(np.stack([expert.probability_K for expert in capped]))]
