"""The figures of a demo's importance weights: cluster shares, coverage, repetition.

Clusters stand from the highest weight on the left to the lowest. Square roots stretch the few
clusters of high weight beside the many of low weight, and a share of 0.1% beside one of 10%.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

RANKS = (1, 10, 50, 200, 1000, 5000)
TIMES = (1, 4, 10, 30, 100, 300, 1000)
ROOM = 0.09  # of the height that a tick needs


def cluster_shares(run: DemoRun) -> Chart | None:
    """Each cluster's share of the domain's windows, upwards, and of the generic ones, downwards."""
    return _chart(
        run,
        draw_shares,
        "Cluster shares",
        "Each cluster's share of the domain's windows, upwards, and of the generic windows, "
        "downwards. Clusters stand from the highest weight on the left to the lowest; both axes "
        "are square roots, which stretch the first ranks and the small shares.",
    )


def coverage(run: DemoRun) -> Chart | None:
    """How much of the domain the highest-weighted part of the generic corpus covers."""
    return _chart(
        run,
        draw_coverage,
        "Coverage",
        "Taking the generic corpus cluster by cluster from the highest weight: how many of the "
        "domain's windows fall in the same clusters. If the two were alike, the line would be the "
        "diagonal.",
    )


def _chart(run: DemoRun, draw: Callable, title: str, reading: str) -> Chart | None:
    names = ("generic_histogram", "specialist_histogram", "weights")
    panels = [
        Panel(draw(*(np.asarray(facts[name], float) for name in names)), short(domain, 40))
        for domain, facts in run.weights.items()
        if all(facts.get(name) for name in names)
    ]
    return Chart(title, reading, panels) if panels else None


def repetition(run: DemoRun) -> Chart | None:
    """How often a window of each cluster is drawn, without the cap and with it."""
    panels = [
        Panel(
            draw_repetitions(facts["uncapped_repetitions"], facts["repetitions"]), short(domain, 40)
        )
        for domain, facts in run.weights.items()
        if facts.get("repetitions")
    ]
    if not panels:
        return None
    return Chart(
        "Repetition",
        "How often the planned training draws a window of each cluster, from the most drawn "
        "cluster on the left: with the settings as they are, and without a cap on repetitions. "
        "Text repeated more than about four times is worth less than new text. Both axes are "
        "square roots.",
        panels,
    )


def draw_shares(generic_K: np.ndarray, specialist_K: np.ndarray, weights_K: np.ndarray):
    """A panel of two histograms, one upside down."""
    up_K, down_K = _by_weight(weights_K, specialist_K, generic_K)

    def draw(axis: Axes) -> None:
        edges = np.arange(len(up_K) + 1)
        axis.stairs(up_K, edges, fill=True, color=SPECIALIST, label="domain, upwards")
        axis.stairs(-down_K, edges, fill=True, color=GENERIC, label="generic, downwards")
        axis.axhline(0, color=QUIET, linewidth=0.8)
        _roots(axis, len(up_K))
        high, low = np.sqrt(up_K.max()), np.sqrt(down_K.max())
        axis.set_ylim(-down_K.max() or -1e-9, up_K.max() or 1e-9)
        up, down = _share_ticks(high, high + low), _share_ticks(low, high + low)
        ticks = [*(-share for share in reversed(down)), 0, *up]
        fixed_ticks(axis.yaxis, ticks, lambda share: f"{100 * abs(share):.3g}%")
        axis.set_xlabel("cluster, by weight")

    return draw


def draw_coverage(generic_K: np.ndarray, specialist_K: np.ndarray, weights_K: np.ndarray):
    """A panel of the cumulative shares, and where half of the domain is reached."""
    across, covered = (
        np.concatenate([[0], np.cumsum(share_K)])
        for share_K in _by_weight(weights_K, generic_K, specialist_K)
    )
    half = float(np.interp(0.5, covered, across))

    def draw(axis: Axes) -> None:
        axis.plot(across, covered, color=SPECIALIST, label="domain")
        axis.plot([0, 1], [0, 1], "--", color=GENERIC, label="if the two were alike")
        axis.plot([half], [0.5], "o", color=SPECIALIST)
        left = half < 0.5
        axis.annotate(
            f"half of the domain in {number(100 * half, 1)}%",
            (half, 0.5),
            (8 if left else -8, -12),
            textcoords="offset points",
            color=SPECIALIST,
            fontweight="bold",
            bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 1},
            ha="left" if left else "right",
        )
        for side in (axis.xaxis, axis.yaxis):
            fixed_ticks(side, np.linspace(0, 1, 5), lambda share: f"{100 * share:.0f}%")
        axis.set(xlabel="share of the generic windows", xlim=(0, 1), ylim=(0, 1.02))

    return draw


def draw_repetitions(before_K: Sequence[float], after_K: Sequence[float]):
    """A panel of repetitions without the cap, filled, and with it, a line."""
    bars_K, line_K = _by_weight(before_K, before_K, after_K)

    def draw(axis: Axes) -> None:
        edges = np.arange(len(bars_K) + 1)
        axis.stairs(bars_K, edges, fill=True, color=GENERIC, label="without cap")
        axis.stairs(line_K, edges, color=SPECIALIST, linewidth=1.6, label="planned")
        _roots(axis, len(bars_K))
        most = max(bars_K.max(), line_K.max()) or 1.0
        axis.set_ylim(0, 1.05 * most)
        ticks: list[float] = [t for t in TIMES if t <= most] or [most]
        fixed_ticks(axis.yaxis, ticks, lambda times: f"{times:.3g}")
        axis.set(xlabel="cluster, by repetitions", ylabel="times")

    return draw


def _roots(axis: Axes, clusters: int) -> None:
    """Square roots on both axes; ranks of the clusters in the middle of their bars."""
    axis.set_xscale("function", functions=(_signed_root, _signed_square))
    axis.set_yscale("function", functions=(_signed_root, _signed_square))
    axis.set_xlim(0, clusters)
    ranks = [rank for rank in RANKS if rank <= clusters]
    fixed_ticks(axis.xaxis, [rank - 0.5 for rank in ranks], lambda at: f"{at + 0.5:.0f}")
    axis.grid(False, axis="x")


def _signed_root(value):
    return np.sign(value) * np.sqrt(np.abs(value))


def _signed_square(value):
    return np.sign(value) * np.square(value)


def _share_ticks(most: float, whole: float) -> list[float]:
    """Round shares up to most², far enough apart on an axis of square roots `whole` high."""
    ticks: list[float] = []
    free = np.inf
    for power in (1, 0.1, 0.01, 0.001, 0.0001):
        for share in (power, 0.5 * power, 0.2 * power):
            height = np.sqrt(share) / (whole or 1.0)
            if np.sqrt(share) <= most and ROOM <= height <= free - ROOM:
                ticks.append(share)
                free = height
    return ticks[::-1]


def _by_weight(weights_K, *shares) -> list[np.ndarray]:
    """Each float [K], from the cluster of the highest weight to that of the lowest."""
    order_K = np.argsort(-np.asarray(weights_K, float), kind="stable")
    return [np.asarray(share_K, float)[order_K] for share_K in shares]
