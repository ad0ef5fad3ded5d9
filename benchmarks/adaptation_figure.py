"""Draws bits per byte against compute of the ways to a new language, from benchmarks.adaptation.

python -m benchmarks.adaptation_figure results/adaptation/rows.jsonl results/adaptation/figure.png
"""

import sys
from collections import defaultdict

import numpy as np

from benchmarks.adaptation_summary import SHALLOW
from benchmarks.repetition_figure import name_points, write
from specialm.reports.charts import Chart, Panel
from specialm.reports.plots import fixed_ticks
from specialm.reports.styles import INK, QUIET, style

CURVES = {  # via -> what it is called
    "full": "whole model",
    "mini_joint": "MiniJoint",
    "mini_post": "MiniPost",
    "scratch": "from scratch",
    "old": "old vocabulary",
}
OTHERS = {"scratch": (QUIET, "o"), "old": (INK, "s")}
UNTRAINED = "none"
KINDS = {"decoder": "decoder", "masked": "masked model"}
LANGUAGES = {"de": "German", "fr": "French", "ru": "Russian"}


def curves(rows: list[dict]) -> dict[str, list[tuple[float, float]]]:
    """{way: (FLOPs, bits per byte) by budget}, means over seeds."""
    found: dict[str, dict[int, list]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["via"]][row["tokens"]].append((row["flops"], row["bits_per_byte"]))
    return {
        via: [tuple(np.mean(points, 0)) for _, points in sorted(by.items())]
        for via, by in found.items()
    }


def chart(rows: list[dict]) -> Chart:
    """One panel a kind of model and language; in its corner the best rule without training."""

    def panel(kind: str, language: str) -> Panel:
        here = [row for row in rows if (row["kind"], row["language"]) == (kind, language)]
        found = curves([row for row in here if row["via"] != UNTRAINED])
        rules = defaultdict(list)
        for row in here:
            if row["via"] == UNTRAINED:
                rules[row["init"]].append(row["bits_per_byte"])

        def draw(axis) -> None:
            for via in CURVES:
                if via in found:
                    colour, marker = OTHERS.get(via) or style(via, ("full", *SHALLOW))
                    axis.plot(*zip(*found[via], strict=True), marker=marker, color=colour)
            axis.set_xscale("log")
            low, high = axis.get_xlim()
            axis.set_xlim(low, high * 3)
            ticks = [step * 10.0**power for power in range(8, 20) for step in (1, 3)]
            shown = [tick for tick in ticks if low <= tick <= high * 3]
            fixed_ticks(axis.xaxis, shown, lambda tick: f"{tick:.0e}".replace("e+", "e"))
            axis.margins(y=0.16)
            name_points(axis, {CURVES[via]: points[-1] for via, points in found.items()})
            if rules:
                best = min(rules, key=lambda name: np.mean(rules[name]))
                axis.text(
                    0.02, 0.03, f"{best}, no training: {np.mean(rules[best]):.2f}",
                    transform=axis.transAxes, color=QUIET,
                )  # fmt: skip
            axis.set_xlabel("FLOPs on this language")
            axis.set_ylabel("bits per byte")

        return Panel(draw, f"{LANGUAGES.get(language, language)}, {KINDS[kind]}")

    there = dict.fromkeys((row["kind"], row["language"]) for row in rows)
    return Chart(
        "A new language for an English model",
        "Held-out pages of one book; means over seeds. One-off costs are in the table.",
        [panel(*each) for each in there],
    )


if __name__ == "__main__":
    write(chart, *sys.argv[1:])
