"""Draws bits per byte against expected repetitions from the rows of benchmarks.repetition.

python -m benchmarks.repetition_figure results/repetition/rows.jsonl results/repetition/figure.png
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from specialm.methods import IMPORTANCE
from specialm.reports.charts import LETTER, WIDTH, Chart, Panel, in_files
from specialm.reports.plots import fixed_ticks
from specialm.reports.styles import INK, QUIET, style

Key = tuple[int, str, int]  # tokens, method, seed
HEIGHT = 3.6  # inches
SIDES = [(right, up) for up in (6, -6, 16, 28, 40, 52) for right in (6, -6)]  # of names, in points
TICKS = (0.5, 1, 2, 4, 8, 16, 32)


def macro(rows: list[dict], field: str) -> dict[Key, float]:
    """Mean over the domains of each method, budget and seed that has all of them."""
    domains = {row["domain"] for row in rows}
    groups: dict[Key, dict[str, float]] = defaultdict(dict)
    for row in rows:
        groups[row["tokens"], row["method"], row["seed"]][row["domain"]] = row[field]
    return {
        key: float(np.mean(list(values.values())))
        for key, values in groups.items()
        if set(values) == domains
    }


def chart(rows: list[dict]) -> Chart:
    """One panel a budget; the line is plain pretraining, on uniformly drawn windows."""
    scores, repeats = macro(rows, "heldout_after"), macro(rows, "expected_repetitions")
    panels = [
        Panel(
            _draw({key[1:]: (repeats[key], scores[key]) for key in scores if key[0] == tokens}),
            f"{tokens / 1e6:g}M tokens of pretraining",
        )
        for tokens in sorted({tokens for tokens, *_ in scores})
    ]
    return Chart(
        "Bits per byte against expected repetitions",
        "Circles are seed 0, squares seed 1; the dotted line is plain pretraining.",
        panels,
        height=HEIGHT,
    )


def _draw(points: dict[tuple[str, int], tuple[float, float]]):
    """Points are {(method, seed): (expected repetitions, bits per byte)}."""

    def draw(axis) -> None:
        base = np.mean([score for (method, _), (_, score) in points.items() if method == "slm"])
        axis.axhline(base, color=INK, linewidth=1, linestyle=":")
        axis.text(0.99, base, "SLM", ha="right", va="bottom", transform=axis.get_yaxis_transform())
        for (method, seed), (x, score) in sorted(points.items()):
            axis.plot(x, score, "o" if seed == 0 else "s", color=_colour(method))
        axis.set_xscale("log", base=2)
        at = [x for x, _ in points.values()]
        axis.set_xlim(0.8 * min(at), 1.9 * max(at))
        shown = [tick for tick in TICKS if 0.8 * min(at) <= tick <= 1.9 * max(at)]
        fixed_ticks(axis.xaxis, shown, lambda tick: f"{tick:g}")
        axis.set_xlabel("expected repetitions, mean over the draws")
        axis.set_ylabel("bits per byte after fine-tuning, macro")
        axis.margins(y=0.16)
        name_points(axis, {method: at for (method, seed), at in points.items() if seed == 0})

    return draw


def name_points(axis, points: dict[str, tuple[float, float]]) -> None:
    """Writes each name where it covers no other name and no point, with a line from afar."""
    size = np.array([72 * (WIDTH - 0.7), 72 * (HEIGHT - 0.8)])  # about, in points
    to_axes = axis.transData + axis.transAxes.inverted()
    at = {name: to_axes.transform(point) * size for name, point in points.items()}
    taken = [(place - 3, place + 3) for place in at.values()]
    for name in sorted(points, key=lambda name: -at[name][1]):
        width = 72 * LETTER * len(name)
        boxes = {
            side: (
                low := at[name] + (side[0] - width * (side[0] < 0), side[1] - 4),
                low + (width, 8),
            )
            for side in SIDES
        }
        side = next((side for side, box in boxes.items() if _is_free(box, taken, size)), SIDES[0])
        taken.append(boxes[side])
        axis.annotate(
            name,
            points[name],
            side,
            textcoords="offset points",
            ha="left" if side[0] > 0 else "right",
            va="center",
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.6}
            if side[1] > 9
            else None,
        )


def _is_free(box, taken, size) -> bool:
    low, high = box
    if not ((low > 2).all() and (high < size).all()):
        return False
    return not any((low < c).all() and (b < high).all() for b, c in taken)


def _colour(method: str) -> str:
    if method.startswith("cap"):
        return style(IMPORTANCE, ())[0]
    return style("slm_pn", ())[0] if method == IMPORTANCE else QUIET


def write(chart_of: Callable[[list[dict]], Chart], rows: str, target: str) -> None:
    """Draws the rows of a file into another, of the kind that its ending says."""
    found = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    ending = Path(target).suffix[1:]
    Path(target).write_bytes(in_files(chart_of(found), [ending])[ending])


if __name__ == "__main__":
    write(chart, *sys.argv[1:])
