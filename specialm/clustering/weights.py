"""Importance weights of clusters, and what sampling by them will mean for a training run.

Plain NumPy in float64. Sampling draws a cluster from the specialist's histogram, then a window
uniformly inside that cluster of the generic corpus: SLM-is of arXiv 2402.01093, section 2. A window
x then has the weight w(x) = P(c(x) | specialist) / P(c(x) | generic).
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from specialm.clustering.histograms import Aim
from specialm.clustering.repetition import Budget, Capped, expected, rates
from specialm.common.errors import UserError


def counts(cluster_N: np.ndarray, k: int) -> np.ndarray:
    """Return int64 [K]: windows in each cluster.

    Raises:
      ValueError: a cluster is outside of 0 .. K - 1.

    """
    counts_K = np.bincount(cluster_N, minlength=k)
    if len(counts_K) > k:
        raise ValueError(f"cluster {len(counts_K) - 1} is beyond the {k} clusters there are")
    return counts_K


def histogram(cluster_N: np.ndarray, k: int) -> np.ndarray:
    """Return float64 [K]: share of the windows in each cluster.

    Raises:
      UserError: there are no windows.

    """
    return _shares(
        counts(cluster_N, k),
        "the set has no windows, so it has no histogram; look at its source in data.domains.",
    )


def entropy(probability_K: np.ndarray) -> float:
    """Return the entropy of a distribution, in nats."""
    p = probability_K[probability_K > 0]
    return float(-(p * np.log(p)).sum()) + 0.0


def uncovered(generic_counts_K: np.ndarray, specialist_counts_K: np.ndarray) -> float:
    """Return the share of the specialist windows whose cluster has no generic window.

    They get no weight.
    """
    specialist_counts_K = np.asarray(specialist_counts_K, np.float64)
    lost = specialist_counts_K[np.asarray(generic_counts_K) == 0].sum()
    return float(lost / specialist_counts_K.sum())


def importance_weights(
    generic_counts_K: np.ndarray,
    specialist_counts_K: np.ndarray,
    smoothing: float = 0.0,
    domain: str = "specialist",
    power: float = 1.0,
) -> np.ndarray:
    """Return w(c) = P(c | specialist) / P(c | generic), float64 [K].

    Its mean over generic windows is 1.

    Clusters without generic windows weigh 0 and the rest of the specialist's histogram is scaled
    up to sum to 1 again (our reading; `uncovered` is the share that is lost).

    Args:
      generic_counts_K: windows of the generic corpus in each cluster.
      specialist_counts_K: windows of the specialist set in each cluster.
      smoothing: 0 to 1; the specialist's histogram is replaced by (1 - smoothing) of itself plus
        `smoothing` of the generic one. 1 is plain generic sampling.
      domain: named in errors.
      power: the weights are raised to it: 1 leaves them, 0 is plain generic sampling.

    Raises:
      UserError: the specialist or generic set has no windows, they share no cluster, or
        `clustering.smoothing` or `clustering.power` is not within 0 to 1.

    """
    if not 0 <= smoothing <= 1:
        raise UserError(f"clustering.smoothing={smoothing}: must be in [0, 1].")
    if not 0 <= power <= 1:
        raise UserError(f"clustering.power={power}: must be in [0, 1].")
    generic_K = _shares(
        generic_counts_K,
        "the generic corpus has no windows; look at the counts of `specialm prepare`.",
    )
    specialist_K = _shares(
        specialist_counts_K,
        f"domain {domain!r}: the specialist set has no "
        "windows; look at its source in data.domains.",
    )
    covered_K = generic_K > 0
    target_K = np.where(covered_K, (1 - smoothing) * specialist_K + smoothing * generic_K, 0.0)
    if target_K.sum() == 0:
        raise UserError(
            f"domain {domain!r}: no generic window lies in any cluster of the "
            "specialist set; take a smaller clustering.k or clustering.smoothing > 0."
        )
    weights_K = target_K / target_K.sum() / np.where(covered_K, generic_K, 1.0)
    return weights_K if power == 1 else _tempered(weights_K, generic_K, power)


def _tempered(weights_K: np.ndarray, generic_K: np.ndarray, power: float) -> np.ndarray:
    """The weights to a power, with a mean of 1 over generic windows again."""
    tempered_K = np.where(generic_K > 0, weights_K**power, 0.0)
    return tempered_K / (tempered_K @ generic_K)


def sampling_distribution(weights_K: np.ndarray, generic_counts_K: np.ndarray) -> np.ndarray:
    """Return float64 [K]: the probability of drawing each cluster, weight times size."""
    mass_K = np.asarray(weights_K, np.float64) * generic_counts_K
    return mass_K / mass_K.sum()


def effective_sample_size(weights_K: np.ndarray, generic_counts_K: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 over the generic windows.

    It is the number of equally weighted windows that give estimates of the same variance.
    """
    mass_K = np.asarray(weights_K, np.float64) * generic_counts_K
    return float(mass_K.sum() ** 2 / (mass_K * weights_K).sum())


@dataclass(frozen=True)
class Repetitions:
    """How often a budget of draws repeats the windows of the generic corpus.

    Attributes:
      distinct_windows: windows drawn at least once, expected.
      mean: draws per window drawn at least once.
      most: draws per window in the cluster where that is largest.

    """

    distinct_windows: float
    mean: float
    most: float


def expected_repetitions(
    weights_K: np.ndarray, generic_counts_K: np.ndarray, planned_windows: int, epoch: int = 0
) -> Repetitions:
    """Return the expected repetitions when `planned_windows` windows are drawn.

    The draws are those of `specialm.data.sampler`: epochs of N slots (or `epoch`), in each of which
    a window of cluster c has w(c) slots (times epoch / N), rounded down or up, in random order.
    """
    size_K = np.asarray(generic_counts_K, np.float64)
    windows = epoch or size_K.sum()
    rate_K = sampling_distribution(weights_K, size_K) * windows / np.where(size_K > 0, size_K, 1)
    epochs, rest = divmod(planned_windows / windows, 1.0)
    full, extra = np.floor(rate_K), rate_K % 1
    # Probability that a window is in none of its slots: of all full epochs, then of the last part.
    missed_K = np.where(full > 0, 0.0, 1 - extra) ** epochs
    missed_K = missed_K * (1 - rest) ** full * (1 - rest * extra)
    distinct = float((size_K * (1 - missed_K)).sum())
    return Repetitions(
        distinct, planned_windows / distinct, float(planned_windows / windows * rate_K.max())
    )


@dataclass(frozen=True)
class WeightReport:
    """Weights of one domain and their consequences.

    Attributes:
      domain: its name.
      generic_counts_K: generic windows in each cluster.
      specialist_counts_K: specialist windows in each cluster.
      weights_K: see `importance_weights`.
      uncovered: see there.
      planned_windows: the budget of draws.
      budget: what caps repetitions, and the part of the draws that is uniform.
      smoothing, power: see `importance_weights`.
      aim: the histogram that is aimed at, from the counts.

    """

    domain: str
    generic_counts_K: np.ndarray
    specialist_counts_K: np.ndarray
    weights_K: np.ndarray
    uncovered: float
    planned_windows: int
    budget: Budget = field(default_factory=Budget)
    smoothing: float = 0.0
    power: float = 1.0
    aim: Aim = field(default_factory=Aim)

    def of_another(self, specialist_counts_K: np.ndarray) -> "WeightReport":
        """Return what the same rules give for another specialist set."""
        return report(
            self.domain,
            self.generic_counts_K,
            specialist_counts_K,
            self.smoothing,
            self.planned_windows,
            self.power,
            self.budget,
            self.aim,
        )

    def can_draw(self, specialist_counts_K: np.ndarray) -> bool:
        """Whether any generic window has a weight for another specialist set."""
        aimed_K = self.aim.of(self.generic_counts_K, specialist_counts_K)
        return bool(self.smoothing or aimed_K[self.generic_counts_K > 0].any())

    @property
    def generic_K(self) -> np.ndarray:
        """The generic histogram."""
        return self.generic_counts_K / self.generic_counts_K.sum()

    @property
    def specialist_K(self) -> np.ndarray:
        """The specialist's histogram, as counted: neither smoothed nor scaled up."""
        return self.specialist_counts_K / self.specialist_counts_K.sum()

    @property
    def sampling_K(self) -> np.ndarray:
        """The sampling distribution over clusters, see `sampling_distribution`; not capped."""
        return sampling_distribution(self.weights_K, self.generic_counts_K)

    @property
    def epoch(self) -> int:
        """Slots of an epoch of the draws; 0 for as many as there are windows.

        A cap makes it all planned draws: then no window comes more often than the cap, rounded up.
        """
        return self.planned_windows if self.budget.caps and not self.budget.uniform else 0

    def cap(self, probability_K: np.ndarray) -> Capped:
        """Return any distribution over these clusters under the budget of repetitions."""
        return self.budget.capped(probability_K, self.generic_counts_K, self.planned_windows)

    @cached_property
    def capped(self) -> Capped:
        """`sampling_K` under the budget of repetitions."""
        return self.cap(self.sampling_K)

    @property
    def drawn_K(self) -> np.ndarray:
        """The distribution of all planned draws: capped, and with the uniform ones."""
        return self.budget.mixed(self.capped.probability_K, self.generic_counts_K)

    @property
    def _drawn_weights_K(self) -> np.ndarray:
        """`weights_K`, as they are after the cap and with the uniform draws."""
        if not self.capped.moved and not self.budget.uniform:
            return self.weights_K
        return self.drawn_K / np.where(self.generic_K > 0, self.generic_K, 1.0)

    @property
    def effective_sample_size(self) -> float:
        """Of all planned draws, in windows; see `effective_sample_size`."""
        return effective_sample_size(self._drawn_weights_K, self.generic_counts_K)

    @property
    def effective_fraction(self) -> float:
        """The effective sample as a share of the generic windows."""
        return self.effective_sample_size / float(self.generic_counts_K.sum())

    @property
    def repetitions(self) -> Repetitions:
        """Of all planned draws; see `expected_repetitions`."""
        return expected_repetitions(
            self._drawn_weights_K, self.generic_counts_K, self.planned_windows, self.epoch
        )

    @property
    def _uncapped_K(self) -> np.ndarray:
        """`drawn_K`, as it is without a cap."""
        return self.budget.mixed(self.sampling_K, self.generic_counts_K)

    def to_json(self) -> dict:
        """Return plain values for JSON and for the report of a run."""
        return {
            "domain": self.domain,
            "generic_windows": int(self.generic_counts_K.sum()),
            "specialist_windows": int(self.specialist_counts_K.sum()),
            "planned_windows": int(self.planned_windows),
            "effective_sample_size": self.effective_sample_size,
            "effective_fraction": self.effective_fraction,
            "distinct_windows": self.repetitions.distinct_windows,
            "mean_repetitions": self.repetitions.mean,
            "max_repetitions": self.repetitions.most,
            "max_weight": float(self.weights_K.max()),
            "uncovered": self.uncovered,
            "entropy": entropy(self.specialist_K),
            "generic_entropy": entropy(self.generic_K),
            "top_fraction": float(self.specialist_K.max()),
            "generic_histogram": self.generic_K.tolist(),
            "specialist_histogram": self.specialist_K.tolist(),
            "weights": self.weights_K.tolist(),
            "sampling": self.sampling_K.tolist(),
            **self._repetition(),
        }

    def _repetition(self) -> dict:
        """What `to_json` says of repetitions, beside the means over windows."""
        cap, counts_K = self.budget.max_repetitions, self.generic_counts_K
        draws = self.planned_windows
        now = expected(self.drawn_K, counts_K, draws, cap)
        return {
            "expected_repetitions": now.mean,
            "share_above_budget": now.above,
            "repetition_budget": now.budget,
            "cap": cap,
            "moved": self.capped.moved,
            "moved_share": sum(self.capped.moved.values()),
            "too_little_text": self.capped.short,
            "capped_sampling": self.capped.probability_K.tolist(),
            "repetitions": rates(self.drawn_K, counts_K, draws).tolist(),
            "uncapped_repetitions": rates(self._uncapped_K, counts_K, draws).tolist(),
        }

    def table(self, top: int = 10) -> str:
        """Return text for a terminal: the figures, then the `top` clusters that are drawn most."""
        facts = self.to_json()
        lines = [
            f"{self.domain}: {facts['specialist_windows']:,} specialist windows, "
            f"{facts['generic_windows']:,} generic windows, {len(self.weights_K)} clusters",
            f"  entropy of the histogram   {facts['entropy']:.2f} nats "
            f"(generic {facts['generic_entropy']:.2f})",
            f"  in the top cluster         {facts['top_fraction']:.1%}",
            f"  without generic windows    {facts['uncovered']:.1%}",
            f"  largest weight             {facts['max_weight']:.1f}",
            f"  effective sample           {facts['effective_sample_size']:,.0f} windows "
            f"({facts['effective_fraction']:.1%} of generic)",
            f"  planned draws              {facts['planned_windows']:,} windows, about "
            f"{facts['distinct_windows']:,.0f} different ones",
            f"  repetitions                {facts['mean_repetitions']:.1f} on average, "
            f"{facts['max_repetitions']:.1f} in the most drawn cluster",
            f"  of the window of a draw    {facts['expected_repetitions']:.1f} on average; "
            f"{facts['share_above_budget']:.1%} of the draws above "
            f"{facts['repetition_budget']:g}",
            "  cluster  specialist  generic   weight",
        ]
        for c in np.argsort(-self.sampling_K, kind="stable")[:top]:
            lines.append(
                f"  {c:7d}  {facts['specialist_histogram'][c]:10.2%}  "
                f"{facts['generic_histogram'][c]:7.2%}  {self.weights_K[c]:7.2f}"
            )
        return "\n".join(lines)


def report(
    domain: str,
    generic_counts_K: np.ndarray,
    specialist_counts_K: np.ndarray,
    smoothing: float,
    planned_windows: int,
    power: float = 1.0,
    budget: Budget | None = None,
    aim: Aim | None = None,
) -> WeightReport:
    """Return the weights of a domain; it raises what `importance_weights` raises.

    Args:
      budget: of repetitions; None for no cap.
      aim: the histogram that is aimed at; None for the counts.
      Others: see `importance_weights` and `WeightReport`.

    """
    aim = aim or Aim()
    aimed_K = aim.of(generic_counts_K, specialist_counts_K)
    return WeightReport(
        domain,
        np.asarray(generic_counts_K),
        np.asarray(specialist_counts_K),
        importance_weights(generic_counts_K, aimed_K, smoothing, domain, power),
        uncovered(generic_counts_K, specialist_counts_K),
        planned_windows,
        budget or Budget(),
        smoothing,
        power,
        aim,
    )


def _shares(counts_K: np.ndarray, message: str) -> np.ndarray:
    counts_K = np.asarray(counts_K, np.float64)
    if counts_K.sum() == 0:
        raise UserError(message)
    return counts_K / counts_K.sum()
