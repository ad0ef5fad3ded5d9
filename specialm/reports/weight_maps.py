"""Two figures of a domain's importance weights: their spectrum, and a map of the clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specialm.reports.charts import Chart, Panel
from specialm.reports.demo_run import DemoRun
from specialm.reports.plots import fixed_ticks
from specialm.reports.styles import GENERIC, PAGE, QUIET, SPECIALIST
from specialm.reports.summary import number
from specialm.reports.words import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN = 1500  # clusters of the largest shares on a map
LARGEST = 220.0  # points² of the largest dot
NAMED = 8  # clusters that are named on a map, at most
ROOM = (0.15, 0.06)  # of its width and height, that a number takes
DECADES = 4  # below the highest weight, on the axis


def spectrum(run: DemoRun) -> Chart | None:
    """How the weights are spread over the generic text."""
    panels = [
        Panel(
            draw_spectrum(
                np.asarray(facts["generic_histogram"], float),
                np.asarray(facts["weights"], float),
                facts["effective_fraction"],
            ),
            short(domain, 40),
        )
        for domain, facts in run.weights.items()
        if facts.get("map")
    ]
    if not panels:
        return None
    return Chart(
        "Spectrum of the weights",
        "The weight of the generic text, from the highest weight on the left: 1 is as often as the "
        "text has it. Where the line ends, text weighs nothing. The dotted line is the effective "
        "sample: how much of the text all draws together are worth.",
        panels,
    )


def cluster_map(run: DemoRun) -> Chart | None:
    """Where the domain lies among the clusters."""
    known = {domain: facts for domain, facts in run.weights.items() if facts.get("map")}
    if not known:
        return None
    explained = ", ".join(
        f"{number(100 * facts['map']['explained'], 0)}%" for facts in known.values()
    )
    return Chart(
        "Map of the clusters",
        "Each circle is a cluster of the generic text, as large as its share; each blue dot is the "
        "domain's share of it. The axes are the two directions in which the clusters differ most "
        f"({explained} of their variance), so what lies close may still differ. Numbers name the "
        "clusters that hold most of the domain, where there is room.",
        [Panel(draw_map(facts), short(domain, 40)) for domain, facts in known.items()],
        height=3.2,
    )


def draw_spectrum(generic_K: np.ndarray, weights_K: np.ndarray, effective: float):
    """A panel of weights over the share of the text that has them."""
    order_K = np.argsort(-weights_K, kind="stable")
    order_K = order_K[(weights_K[order_K] > 0) & (generic_K[order_K] > 0)]
    edges = np.concatenate([[0], np.cumsum(generic_K[order_K])])

    def draw(axis: Axes) -> None:
        values = weights_K[order_K]
        axis.stairs(values, edges, baseline=None, color=SPECIALIST, linewidth=1.6, label="domain")
        axis.axhline(1, color=GENERIC, linestyle="--", label="generic text as it is")
        axis.axvline(effective, color=QUIET, linestyle=":", label="effective sample")
        top = float(values.max())
        axis.set_yscale("log")
        axis.set_ylim(max(values.min() / 1.5, top * 10**-DECADES), 1.5 * max(top, 1.0))
        powers = range(-DECADES, 6)
        low, high = axis.get_ylim()
        fixed_ticks(
            axis.yaxis,
            [10.0**power for power in powers if low <= 10.0**power <= high],
            lambda weight: f"{weight:g}",
        )
        axis.minorticks_off()
        fixed_ticks(axis.xaxis, np.linspace(0, 1, 5), lambda share: f"{100 * share:.0f}%")
        axis.set(xlabel="share of the generic text", ylabel="weight", xlim=(0, 1))

    return draw


def draw_map(facts: dict):
    """A panel of clusters in two dimensions."""
    x_K, y_K = np.asarray(facts["map"]["x"], float), np.asarray(facts["map"]["y"], float)
    generic_K = np.asarray(facts["generic_histogram"], float)
    domain_K = np.asarray(facts["specialist_histogram"], float)
    shown = np.argsort(-(generic_K + domain_K), kind="stable")[:DRAWN]
    largest = max(generic_K.max(), domain_K.max())

    def draw(axis: Axes) -> None:
        for share_K, face, label in (
            (generic_K, "none", "generic text"),
            (domain_K, SPECIALIST, "domain"),
        ):
            at = shown[share_K[shown] > 0]
            axis.scatter(
                x_K[at],
                y_K[at],
                s=LARGEST * share_K[at] / largest,
                facecolors=face,
                edgecolors=GENERIC if face == "none" else face,
                linewidths=0.7,
                label=label,
            )
        for cluster in _named(x_K, y_K, domain_K):
            radius = np.sqrt(LARGEST * domain_K[cluster] / largest) / 2
            axis.annotate(
                str(cluster),
                (x_K[cluster], y_K[cluster]),
                (radius + 3, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold",
                bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 0.5, "alpha": 0.7},
            )
        axis.set(xticks=[], yticks=[])
        axis.margins(0.08)

    return draw


def _named(x_K: np.ndarray, y_K: np.ndarray, domain_K: np.ndarray) -> list[int]:
    """The clusters with most of the domain, without those whose numbers would touch another."""
    wide, high = (float(np.ptp(of_K)) or 1.0 for of_K in (x_K, y_K))
    found: list[int] = []
    for cluster in np.argsort(-domain_K, kind="stable")[:NAMED]:
        apart = all(
            abs(x_K[cluster] - x_K[other]) > ROOM[0] * wide
            or abs(y_K[cluster] - y_K[other]) > ROOM[1] * high
            for other in found
        )
        if domain_K[cluster] > 0 and apart:
            found.append(int(cluster))
    return found
