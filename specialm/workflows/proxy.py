"""The repetitions and the clusters of importance sampling, chosen by a model of seconds.

`clustering.max_repetitions=auto` and `clustering.candidates` (`choosing.py`) are settled before
anything is pretrained: for every candidate an n-gram model is trained on the windows as often as
they would be drawn, mixed with one of the specialist training set (which stands for fine-tuning),
and scored on the specialist's validation windows. The candidate with the fewest bits per byte is
taken.

Our reading of what makes counts a proxy: a small network learns an n-gram only after it has seen it
several times, so the discount is far above that of a good n-gram model. `DISCOUNT` was chosen
where it ranks trained models of 1.1M parameters (results/README.md says how well it ranks others).
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering.repetition import rates
from specialm.clustering.weights import WeightReport
from specialm.common import processes
from specialm.common.progress import bar
from specialm.common.stages import digest
from specialm.evaluation import ngrams
from specialm.evaluation.ngrams import NgramIndex, Windows

if TYPE_CHECKING:
    from specialm.workflows.pipeline import Run

AUTO = "auto"
FALLBACK = 8.0  # instead of AUTO, for draws that aim at no domain
CAPS = (1.0, 2.0, 4.0, 8.0, 16.0, 0.0)  # 0: none
DISCOUNT = 4.0
ORDER = 3
BITS = "the n-gram proxy's bits per byte"
TOKENS = 10_000_000  # of generic text that are counted, at most


@dataclass(frozen=True)
class Candidate:
    """One way to draw.

    Attributes:
      clusters: `clustering.k`, or the level of a tree.
      cap: `clustering.max_repetitions`.
    """

    clusters: int
    cap: float


class Proxy:
    """Scores draws of a run's generic windows by the validation text of its domains."""

    def __init__(self, run: "Run"):
        self.run = run

    @cached_property
    def generic_n(self) -> np.ndarray:
        """Windows of about `TOKENS` tokens, at random: repeated as often as all of them."""
        store = self.run.generic
        count = min(len(store), int(len(store) * TOKENS / max(1, int(store.sizes_N.sum()))))
        rng = np.random.default_rng(self.run.config.clustering.seed)
        return np.sort(rng.permutation(len(store))[: max(1, count)])

    @cached_property
    def _index(self) -> NgramIndex:
        windows = Windows.of(self.run.generic, self.generic_n)
        return NgramIndex(windows, self.run.prepared.vocabulary.size, ORDER)

    def scorer(self, domain: str) -> Callable[[np.ndarray], float]:
        """(how often each generic window is drawn [N]) -> bits per byte of the validation text."""
        stores = self.run.prepared.domains[domain]
        used = self.run.prepared.specialist_indices(domain, self.run.config.data)
        train = Windows.of(stores["train"], used["train"])
        valid = Windows.of(stores["valid"], used["valid"])
        own = NgramIndex(train, self.run.prepared.vocabulary.size, ORDER)
        own_NxL = own.probabilities(own.counts(np.ones(len(used["train"]))), own.places(valid))
        own_T, places = own_NxL[valid.mask_NxL], self._index.places(valid)

        def score(draws_N: np.ndarray) -> float:
            counts = self._index.counts(draws_N[self.generic_n])
            p_NxL = self._index.probabilities(counts, places, DISCOUNT)
            mixture_T, _ = ngrams.mixed(p_NxL[valid.mask_NxL], own_T)
            return ngrams.bits_per_byte(mixture_T, valid.bytes)

        return score


def draws(weights: WeightReport, cluster_N: np.ndarray, seed: int = 0) -> np.ndarray:
    """How often each window is drawn, float64 [N]: its expectation, rounded down or up."""
    rates_K = rates(weights.drawn_K, weights.generic_counts_K, weights.planned_windows)
    whole_N = np.floor(rates_K[cluster_N])
    random_N = np.random.default_rng(seed).random(len(cluster_N))
    return whole_N + (random_N < rates_K[cluster_N] - whole_N)


def scores(
    proxy: Proxy, domain: str, runs: dict[int, "Run"], caps: Sequence[float]
) -> dict[Candidate, float]:
    """Bits per byte of every candidate; a stage, so that they are found once.

    Args:
      runs: {clusters: a run with so many}.
      caps: to try with each.
    """
    from specialm.workflows import pipeline  # it asks this module for a cap

    candidates = [Candidate(clusters, cap) for clusters in runs for cap in caps]
    clusters_of = {clusters: run.clusters() for clusters, run in runs.items()}
    weights = [pipeline.weigh(runs[c.clusters], domain, cap=c.cap) for c in candidates]
    stores = proxy.run.prepared.domains[domain]
    inputs = {
        "store": proxy.run.generic.fingerprint,
        "specialist": [stores["train"].fingerprint, stores["valid"].fingerprint],
        "tokens": [proxy.run.config.data.specialist_tokens, proxy.run.config.data.valid_tokens],
        "clusters": [clusters.fingerprint for clusters in clusters_of.values()],
        "candidates": [[c.clusters, c.cap] for c in candidates],
        "draws": [digest(report.drawn_K) for report in weights],
        "planned": weights[0].planned_windows,
        "proxy": [DISCOUNT, ORDER, TOKENS, proxy.run.config.clustering.seed],
    }

    def work(path: Path) -> dict:
        score, found = proxy.scorer(domain), []
        with bar(len(candidates), f"n-gram proxy, {domain}", "candidate") as progress:
            for candidate, report in zip(candidates, weights, strict=True):
                cluster_N = clusters_of[candidate.clusters].generic_N
                found.append(score(draws(report, cluster_N)))
                progress.update(1)
        return {"bits_per_byte": found}

    found = proxy.run.stages.run(f"proxy/{domain}", inputs, work).result["bits_per_byte"]
    return dict(zip(candidates, found, strict=True))


def caps_of(run: "Run") -> dict[str, float]:
    """`clustering.max_repetitions` for each domain of a run where it is `AUTO`."""
    proxy, chosen = Proxy(run), {}
    for domain in run.domains:
        found = scores(proxy, domain, {run.config.clustering[setting(run.config)]: run}, CAPS)
        best = min(found, key=found.__getitem__)
        chosen[domain] = best.cap
        say(domain, {f"{candidate.cap:g}": bits for candidate, bits in found.items()}, best.cap)
    return chosen


def bits_of(run: "Run", runs: dict[int, "Run"]) -> dict[int, float]:
    """Bits per byte of every number of clusters, on average over the domains of a run; each is
    judged under its own cap.

    Args:
      runs: {clusters: a run with so many}.
    """
    cap = run.config.clustering.max_repetitions
    caps, proxy, total = CAPS if cap == AUTO else (cap,), Proxy(run), dict.fromkeys(runs, 0.0)
    for domain in run.domains:
        found = scores(proxy, domain, runs, caps)
        for n in runs:
            best = min(bits for candidate, bits in found.items() if candidate.clusters == n)
            total[n] += best / len(run.domains)
    return total


def setting(config: ConfigDict) -> str:
    """The setting of `clustering` that says how many clusters there are."""
    return "level" if config.clustering.method == "tree" else "k"


def say(what: str, bits: dict[str, float], chosen: float, by: str = BITS) -> None:
    """A line for people, on standard error."""
    if processes.is_first():
        tried = ", ".join(f"{name}: {value:.4f}" for name, value in bits.items())
        print(f"{what}: chosen {chosen:g} by {by} ({tried})", file=sys.stderr, flush=True)
