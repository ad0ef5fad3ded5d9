"""Draws the gain of importance sampling against each size, from the rows of benchmarks.why.

python -m benchmarks.why_figure results/why/rows.jsonl results/why/figure.png
"""

import sys

import numpy as np

from benchmarks.intervals import interval
from benchmarks.repetition_figure import write
from specialm.methods import BASE, IMPORTANCE
from specialm.reports.charts import Chart, Panel
from specialm.reports.plots import fixed_ticks, zero_line
from specialm.reports.styles import QUIET, style

PHASES = {"before": "before fine-tuning", "after": "after fine-tuning"}


def gains(rows: list[dict], phase: str) -> dict[str, dict[float, np.ndarray]]:
    """{axis: {value: change against `slm`, per cent, by seed}}, macro averages over the domains."""
    found: dict[str, dict[float, np.ndarray]] = {}
    for axis, value in dict.fromkeys((row["axis"], row["value"]) for row in rows):
        own = [row for row in rows if (row["axis"], row["value"]) == (axis, value)]
        macros = [
            np.array(
                [
                    np.mean([row[f"{phase}_bits_per_byte"] for row in own if keys(row) == (m, s)])
                    for s in sorted({row["seed"] for row in own})
                ]
            )
            for m in (IMPORTANCE, BASE)
        ]
        found.setdefault(axis, {})[value] = 100 * (macros[0] / macros[1] - 1)
    return found


def keys(row: dict) -> tuple[str, int]:
    """(method, seed)."""
    return row["method"], row["seed"]


def _interval(values: np.ndarray) -> tuple[float, float]:
    return (values.mean(), 0.0) if len(values) < 2 else tuple(interval(values))


def table(rows: list[dict]) -> str:
    """The gains as Markdown, with half of their 95% intervals over seeds."""
    found = {phase: gains(rows, phase) for phase in PHASES}
    drawn = {
        key: np.mean([row["expected_repetitions"] for row in rows if key == size(row)])
        for key in dict.fromkeys(map(size, rows))
    }
    lines = [f"| | | draws of a window | {' | '.join(PHASES.values())} |", "|---|---|---|---|---|"]
    for axis, values in found["before"].items():
        for value in values:
            cells = ["{:+.1f}% ± {:.1f}".format(*_interval(found[p][axis][value])) for p in PHASES]
            lines.append(f"| {axis} | {value:,} | {drawn[axis, value]:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def size(row: dict) -> tuple[str, float] | None:
    """(axis, value) of a row of importance sampling."""
    return (row["axis"], row["value"]) if row["method"] == IMPORTANCE else None


def chart(rows: list[dict]) -> Chart:
    """One panel an axis."""
    found = {phase: gains(rows, phase) for phase in PHASES}
    colours = {"before": QUIET, "after": style(IMPORTANCE, ())[0]}

    def panel(axis_name: str) -> Panel:
        def draw(axis) -> None:
            for phase, name in PHASES.items():
                values = found[phase][axis_name]
                at = sorted(values)
                means, halves = zip(*(_interval(values[v]) for v in at), strict=True)
                axis.errorbar(
                    at, means, halves, color=colours[phase], marker="o", capsize=3, label=name
                )
            zero_line(axis, vertical=False)
            axis.set_xscale("log")
            fixed_ticks(axis.xaxis, at, lambda value: f"{value:,g}")
            axis.set_ylabel("bits per byte against slm, %")

        return Panel(draw, axis_name)

    return Chart(
        "What importance sampling changes as one size changes",
        "Below 0 it is better; bars are 95% intervals over seeds.",
        [panel(name) for name in found["before"]],
        list(PHASES.values()),
    )


if __name__ == "__main__":
    write(chart, *sys.argv[1:])
