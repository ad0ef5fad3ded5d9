"""Draws bits per byte against compute of the ways to a new language, from benchmarks.adaptation.

python -m benchmarks.adaptation_figure results/adaptation/rows.jsonl results/adaptation/figure.png
"""

import sys
from collections import defaultdict

import numpy as np

from benchmarks.repetition_figure import write
from specialm.reports.charts import Chart, Panel
from specialm.reports.plots import fixed_ticks
from specialm.reports.styles import INK, QUIET, style

CURVES = {  # via -> what it is called
    "full": "through the whole model",
    "mini_joint": "MiniJoint",
    "mini_post": "MiniPost",
    "scratch": "from scratch",
    "old": "all trained on, old vocabulary",
}
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
    """One panel a kind of model and language; the dotted line is the best rule without training."""

    def panel(kind: str, language: str) -> Panel:
        here = [row for row in rows if (row["kind"], row["language"]) == (kind, language)]
        found = curves([row for row in here if row["via"] != UNTRAINED])
        rules = defaultdict(list)
        for row in here:
            if row["via"] == UNTRAINED:
                rules[row["init"]].append(row["bits_per_byte"])

        def draw(axis) -> None:
            for via, label in CURVES.items():
                if via in found:
                    colour, marker = style(via, CURVES)
                    flops, bits = zip(*found[via], strict=True)
                    axis.plot(flops, bits, marker=marker, color=colour)
                    axis.annotate(
                        label, (flops[-1], bits[-1]), (6, 0), textcoords="offset points",
                        va="center", color=INK,
                    )  # fmt: skip
            if rules:
                best = min(rules, key=lambda name: np.mean(rules[name]))
                axis.axhline(np.mean(rules[best]), color=QUIET, linestyle=":", linewidth=1)
                axis.text(
                    0.99, np.mean(rules[best]), f"{best}, no training", ha="right", va="bottom",
                    transform=axis.get_yaxis_transform(), color=QUIET,
                )  # fmt: skip
            axis.set_xscale("log")
            low, high = axis.get_xlim()
            axis.set_xlim(low, high * 6)
            ticks = [step * 10.0**power for power in range(8, 20) for step in (1, 3)]
            shown = [tick for tick in ticks if low <= tick <= high * 6]
            fixed_ticks(axis.xaxis, shown, lambda tick: f"{tick:.0e}".replace("e+", "e"))
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
