"""The figures of a demo: each function gives a chart of a run, None where it has nothing for it.

A new one is a function here and its name in `demo_page.SECTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from specialm.reports.charts import Chart, Panel
from specialm.reports.demo_run import DemoRun, domain_name
from specialm.reports.plots import log_x, method_rows, rows_height, zero_line
from specialm.reports.styles import PAGE, QUIET, style
from specialm.reports.summary import (
    BASE,
    MACRO,
    PHASES,
    Cell,
    cell_of,
    count,
    label,
    signed_percent,
    spread,
)
from specialm.reports.words import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS = 80  # of one training curve; more are averaged in buckets


def before_and_after(run: DemoRun) -> Chart | None:
    """Each method's perplexity before and after fine-tuning, a panel for each domain."""
    summary, panels, most = run.summary, [], 0
    for domain in summary.columns:
        rows = {
            m: (summary.cell(m, domain, "pretrained"), summary.cell(m, domain, "finetuned"))
            for m in summary.methods
        }
        rows = {m: both for m, both in rows.items() if any(both)}
        if rows:
            panels.append(Panel(_draw_both(rows, run.names), short(domain_name(domain), 40)))
            most = max(most, len(rows))
    if not panels:
        return None
    return Chart(
        "Before and after fine-tuning",
        "Perplexity, the lower the better, before fine-tuning (ring) and after it (dot, and the "
        "figure on the right). Each panel has its own logarithmic scale.",
        panels,
        height=rows_height(most),
    )


def _draw_both(rows: dict[str, tuple[Cell | None, Cell | None]], names: Sequence[str]):
    def draw(axis: Axes) -> None:
        for y, (method, (before, after)) in enumerate(rows.items()):
            colour, _ = style(method, names)
            if before and after:
                axis.plot([before.mean, after.mean], [y, y], color=colour, linewidth=0.8)
            for value, face in ((before, PAGE), (after, colour)):
                if value:
                    axis.errorbar(
                        value.mean,
                        y,
                        xerr=value.sd,
                        fmt="o",
                        color=colour,
                        markerfacecolor=face,
                        capsize=2.5,
                        elinewidth=2,
                    )
        for face, when in ((PAGE, "before"), (QUIET, "after")):
            axis.plot([], [], "o", color=QUIET, markerfacecolor=face, label=f"{when} fine-tuning")
        values = [spread(next(c for c in both[::-1] if c)) for both in rows.values()]
        method_rows(axis, list(rows), names, values)
        log_x(axis, [cell.mean for both in rows.values() for cell in both if cell])

    return draw


def differences(run: DemoRun) -> Chart | None:
    """Each method's change of macro perplexity against the base, a mark for each seed."""
    panels, most = [], 0
    for phase in run.summary.phases:
        changes = {
            m: run.summary.difference(m, MACRO, phase) for m in run.summary.methods if m != BASE
        }
        changes = {m: change for m, change in changes.items() if change}
        if changes:
            heading = f"{PHASES.get(phase, phase)}: macro"
            panels.append(Panel(_draw_changes(changes, run.names), heading))
            most = max(most, len(changes))
    if not panels:
        return None
    return Chart(
        f"Change against {label(BASE)}",
        f"Change of macro perplexity against {label(BASE)}, paired by seed; below zero is better. "
        "Every dot is a seed, the bar is their mean.",
        panels,
        height=rows_height(most),
    )


def _draw_changes(changes: dict[str, dict], names: Sequence[str]):
    def draw(axis: Axes) -> None:
        for y, (method, change) in enumerate(changes.items()):
            colour, _ = style(method, names)
            seeds = list(change.values())
            axis.plot(seeds, [y] * len(seeds), "o", color=colour, markersize=4)
            axis.plot([cell_of(change).mean], [y], "|", color=colour, markersize=13, mew=2)
        values = [signed_percent(cell_of(change)) for change in changes.values()]
        method_rows(axis, list(changes), names, values)
        zero_line(axis)
        axis.margins(x=0.12)
        axis.xaxis.set_major_formatter(lambda x, _: _signed(x))
        axis.locator_params(axis="x", nbins=4)

    return draw


def _signed(change: float) -> str:
    return "0" if abs(change) < 1e-9 else f"{100 * change:+.3g}%".replace("-", "−")


@dataclass(frozen=True)
class Curve:
    """A line of losses of one training."""

    method: str
    domain: str | None
    x_N: np.ndarray
    loss_N: np.ndarray


def pretraining(run: DemoRun) -> Chart | None:
    """Training loss over the tokens of pretraining, a panel for each domain."""
    return _curve_chart(
        run,
        ("pretrained", "train", "tokens"),
        "Pretraining",
        "Loss in nats per token on each method's own training text, which differs between "
        "methods: compare the shapes, not the heights. The first steps run off the top; "
        "long curves are averaged in buckets.",
    )


def fine_tuning(run: DemoRun) -> Chart | None:
    """Validation loss over the steps of fine-tuning, a panel for each domain."""
    return _curve_chart(
        run,
        ("finetuned", "valid", "step"),
        "Fine-tuning",
        "Loss in nats per token on the domain's validation text, the same for all methods. "
        "A mark stands at the lowest point, the model that is evaluated.",
    )


def _curve_chart(run: DemoRun, kind: tuple[str, str, str], title: str, reading: str):
    """A panel for each domain; a curve of no domain, one model for all, stands in each."""
    phase, split, x_name = kind
    found = (_curve(c, split, x_name) for c in run.curves if c.get("phase") == phase)
    curves = [curve for curve in found if curve]
    domains = dict.fromkeys(curve.domain for curve in curves)
    panels = []
    named: list[str | None] = [d for d in domains if d is not None]
    for domain in named or ([None] if curves else []):
        here = [curve for curve in curves if curve.domain in (domain, None)]
        if here:
            draw = _draw_curves(here, x_name, split == "valid", run.names)
            panels.append(Panel(draw, short(domain or "all domains", 40)))
    order = [label(name) for name in run.names]
    return Chart(title, reading, panels, order) if panels else None


def _curve(record: dict, split: str, x_name: str) -> Curve | None:
    """The points of one split, None where there are none."""
    points = [
        (p.get(x_name, p.get("step")), p["loss"])
        for p in record.get("points") or ()
        if p.get("split", split) == split and p.get("loss") is not None
    ]
    points = sorted((x, y) for x, y in points if x is not None and math.isfinite(y))
    if not points:
        return None
    x_N, loss_N = np.array(points, float).T
    return Curve(record["method"], record.get("domain"), x_N, loss_N)


def _draw_curves(curves: Sequence[Curve], x_name: str, best: bool, names: Sequence[str]):
    """Each in the method's colour, its marker at the lowest point, or without `best` at the end."""
    thinned = [
        (curve.method, *((curve.x_N, curve.loss_N) if best else thin(curve.x_N, curve.loss_N)))
        for curve in curves
    ]
    last = max(x_P[-1] for _, x_P, _ in thinned)

    def draw(axis: Axes) -> None:
        for method, x_P, loss_P in thinned:
            colour, marker = style(method, names)
            at = int(np.argmin(loss_P)) if best else len(loss_P) - 1
            axis.plot(x_P, loss_P, color=colour, marker=marker, markevery=[at], label=label(method))
        axis.set(xlabel=x_name, ylabel="nats per token", ylim=loss_range(thinned, last))
        axis.set_xlim(0, 1.03 * last or 1)
        axis.locator_params(axis="x", nbins=5)
        axis.xaxis.set_major_formatter(lambda x, _: count(x))

    return draw


def loss_range(lines: Sequence[tuple], last: float) -> tuple[float, float]:
    """The losses shown: all but those of the first steps, with some room."""
    low = min(loss_P.min() for *_, loss_P in lines)
    high = max(np.interp(0.08 * last, x_P, loss_P) for _, x_P, loss_P in lines)
    high = max(high, *(loss_P[-1] for *_, loss_P in lines), low + 0.05)
    pad = 0.05 * (high - low)
    return low - pad, high + pad


def thin(x_N, loss_N, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """(x_P, loss_P): at most `most` points, each the average of a bucket of neighbours."""
    x_N, loss_N = np.asarray(x_N, float), np.asarray(loss_N, float)
    buckets = min(len(x_N), most)
    pieces = zip(np.array_split(x_N, buckets), np.array_split(loss_N, buckets), strict=True)
    averages = np.array([(a.mean(), b.mean()) for a, b in pieces])
    averages[-1, 0] = x_N[-1]
    return averages[:, 0], averages[:, 1]
