"""Draws what a step of each family takes against the dense one, from rows of benchmarks.families.

python -m benchmarks.families_figure results/bank/families.jsonl results/bank/families.png
"""

import sys

from benchmarks.families import FAMILIES
from benchmarks.repetition_figure import write
from specialm.reports.charts import Chart, Panel
from specialm.reports.plots import fixed_ticks
from specialm.reports.styles import INK, style

METHODS = dict(zip(FAMILIES, ("slm_pn", "slm_hn", "soup", "slm_mix"), strict=True))


def chart(rows: list[dict]) -> Chart:
    """One panel a number of experts."""
    sizes = sorted({row["tokens_per_step"] for row in rows})

    def panel(experts: int) -> Panel:
        own = sorted(
            (row for row in rows if row["experts"] == experts),
            key=lambda row: row["tokens_per_step"],
        )

        def draw(axis) -> None:
            for place, (family, method) in enumerate(METHODS.items()):
                found = [(row["tokens_per_step"], row["families"].get(family)) for row in own]
                at, values = zip(*[pair for pair in found if pair[1]], strict=True)
                ratios = [value["wall_ratio"] for value in values]
                colour, marker = style(method, METHODS.values())
                beside = [tokens * (1 + 0.04 * place) for tokens in at]  # where bars are seen
                axis.plot(beside, ratios, color=colour, marker=marker, label=family)
                axis.vlines(
                    beside, *zip(*(v["wall_range"] for v in values), strict=True), colour, lw=0.6
                )
            axis.axhline(1, color=INK, linewidth=1, linestyle=":")
            axis.set_xscale("log", base=2)
            fixed_ticks(axis.xaxis, sizes, lambda tokens: f"{tokens:,}")
            axis.set_xlabel("tokens a step")
            axis.set_ylabel("time of a step / the dense model's")

        return Panel(draw, f"{experts} experts")

    return Chart(
        "What a bank or a mixture costs in training",
        "Medians over rounds of turns; thin lines are the range of the rounds.",
        [panel(experts) for experts in sorted({row["experts"] for row in rows})],
        list(METHODS),
    )


if __name__ == "__main__":
    write(chart, *sys.argv[1:])
