"""How many clusters importance sampling has, or how deep in the tree they lie, where
`clustering.candidates` leaves it open. A way to choose is a line of `WAYS`.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from specialm.clustering import likelihood
from specialm.workflows import proxy

if TYPE_CHECKING:
    from specialm.workflows.pipeline import Run


@dataclass(frozen=True)
class Way:
    """One way to choose.

    Attributes:
      bits: (a run, {clusters: a run with so many}) -> {clusters: the fewer the better}.
      label: of the bits, for people.
    """

    bits: Callable[["Run", dict[int, "Run"]], dict[int, float]]
    label: str


def heldout_bits(run: "Run", runs: dict[int, "Run"]) -> dict[int, float]:
    """Bits per window of held-out specialist documents, under the cap (`proxy.FALLBACK` if it is
    to be chosen as well); the mean over the domains.
    """
    from specialm.workflows import pipeline  # it asks this module for the clusters

    cap = run.config.clustering.max_repetitions
    known = proxy.FALLBACK if cap == proxy.AUTO else cap
    total = dict.fromkeys(runs, 0.0)
    for domain in run.domains:
        store = run.prepared.domains[domain]["train"]
        used_N = run.prepared.specialist_indices(domain, run.config.data)["train"]
        for clusters, of in runs.items():
            total[clusters] += likelihood.bits(
                pipeline.weigh(of, domain, cap=known),
                of.clusters().domains[domain],
                store.document_N[used_N],
                run.config.clustering.seed,
            ) / len(run.domains)
    return total


WAYS = {
    "ngrams": Way(proxy.bits_of, proxy.BITS),
    "likelihood": Way(heldout_bits, "the bits per window of held-out documents"),
}


def with_chosen_clusters(run: "Run") -> "Run":
    """The same run with the best of `clustering.candidates`, on average over its domains."""
    runs = {clusters: _with(run, clusters) for clusters in run.config.clustering.candidates}
    way = WAYS[run.config.clustering.choose_by]
    bits = way.bits(run, runs)
    chosen = min(bits, key=bits.__getitem__)
    proxy.say(proxy.setting(run.config), {str(n): b for n, b in bits.items()}, chosen, way.label)
    return runs[chosen]


def _with(run: "Run", clusters: int) -> "Run":
    config = copy.deepcopy(run.config).unlock()
    config.clustering[proxy.setting(config)] = clusters
    return replace(run, config=config.lock())
