"""Draws bits per byte of what a person can use, from the rows of benchmarks.open_model.

python -m benchmarks.open_model_figure results/open_model/rows.jsonl results/open_model/figure.png
"""

import sys

from benchmarks.open_model import chosen_rates
from benchmarks.repetition_figure import write
from specialm.reports.charts import Chart, Panel
from specialm.reports.styles import INK, QUIET, style

NAMES = {  # method -> label, the worst first
    "lzma": "LZMA, all text in front",
    "small_is": "26M, cut out of the checkpoint",
    "small_taught": "the same, distilled from it",
    "ngram": "n-grams",
    "open": "135M open checkpoint",
    "open_lora": "fine-tuned, LoRA",
    "open_ft": "fine-tuned",
    "open_pn": "upcycled bank, fine-tuned",
    "open_is": "importance-sampled, fine-tuned",
}
OURS = ("open_is", "open_pn")
TITLES = {"med": "Definitions of diseases", "ency": "World Factbook", "books": "Old novels"}


def scores(rows: list[dict], domain: str) -> dict[str, float]:
    """{method: held-out bits per byte at the chosen rate, the best of the budgets}."""
    chosen, found = chosen_rates(rows), dict[str, list[float]]()
    for row in rows:
        key = (row["corpus"], row["size"], row["tokens"], row["method"])
        if (
            row["domain"] == domain
            and chosen.get(key, row["learning_rate"]) == row["learning_rate"]
        ):
            found.setdefault(row["method"], []).append(row["heldout_after"])
    return {name: min(found[name]) for name in NAMES if name in found}


def chart(rows: list[dict]) -> Chart:
    """One panel a domain, a bar a method."""

    def panel(domain: str) -> Panel:
        bits = scores(rows, domain)

        def draw(axis) -> None:
            for place, (name, value) in enumerate(bits.items()):
                colour = style("slm_is", ())[0] if name in OURS else QUIET
                axis.barh(-place, value, color=colour, height=0.62)
                axis.text(value, -place, f" {value:.2f}", va="center", color=INK)
            axis.set_yticks([-place for place in range(len(bits))], [NAMES[n] for n in bits])
            axis.set_xlim(0, 1.18 * max(bits.values()))
            axis.grid(axis="y", visible=False)
            axis.set_xlabel("bits per byte")

        return Panel(draw, TITLES[domain])

    return Chart(
        "What a person can use, with 50,000 tokens of a domain",
        "Fewer bits are better; coloured: methods of specialm from the open checkpoint.",
        [panel(domain) for domain in TITLES],
    )


if __name__ == "__main__":
    write(chart, *sys.argv[1:])
