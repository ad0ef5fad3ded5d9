"""Tables and the curve of size golf, from the rows of benchmarks.golf.

python -m benchmarks.golf_table results/golf/rows.jsonl results/golf/curve.png
"""

import sys

from benchmarks.golf_entries import ENTRIES
from benchmarks.repetition_figure import write
from specialm.reports.charts import Chart, Panel
from specialm.reports.plots import fixed_ticks
from specialm.reports.styles import INK, QUIET, style

LZMA, NGRAMS, NETWORK = "LZMA", "n-grams, pruned", "network and n-grams"


def table(rows: list[dict]) -> str:
    """The rows as Markdown, the best first."""
    lines = [
        "| entry | bits per byte | before | artifact bytes | parameters | tokens | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in sorted(rows, key=lambda row: row["bits_per_byte"]):
        cells = [
            f"{each['entry']}{_out(each)}",
            f"{each['bits_per_byte']:.4f}",
            *(
                f"{each[name]:{form}}" if name in each else ""
                for name, form in (
                    ("before_quantization", ".4f"),
                    ("artifact_bytes", ","),
                    ("params", ","),
                    ("tokens", ","),
                    ("spent_minutes", ".1f"),
                )
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _out(row: dict) -> str:
    return "" if row["fits"] and row["in_time"] else " (out of bounds)"


def tricks(rows: list[dict]) -> str:
    """What each trick changes, as Markdown: an entry against the one that lacks it alone."""
    bits = {row["entry"]: row["bits_per_byte"] for row in rows}
    lines = [
        "| entry | against | bits per byte | change | d | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        other = ENTRIES[row["entry"]].over if row["entry"] in ENTRIES else ""
        change = f"{100 * (row['bits_per_byte'] / bits[other] - 1):+.1f}%" if other in bits else ""
        if "d_model" in row:
            cells = [row["entry"], other, f"{row['bits_per_byte']:.3f}", change]
            lines.append(f"| {' | '.join(cells)} | {row['d_model']} | {row['tokens']:,} |")
    return "\n".join(lines)


def best(rows: list[dict]) -> dict[str, dict[int, float]]:
    """{what: {bytes of the artifact: fewest bits per byte}}."""
    found: dict[str, dict[int, float]] = {NETWORK: {}, NGRAMS: {}, LZMA: {}}
    for row in (row for row in rows if row["fits"] and row["in_time"]):
        own = NETWORK if "d_model" in row else LZMA if row["entry"] == LZMA else NGRAMS
        size = row["bytes"]
        found[own][size] = min(row["bits_per_byte"], found[own].get(size, float("inf")))
    return found


def chart(rows: list[dict]) -> Chart:
    """Bits per byte against the bytes of the artifact."""

    def draw(axis) -> None:
        looks = {NETWORK: (style("slm_is", ())[0], "o"), NGRAMS: (INK, "s"), LZMA: (QUIET, "^")}
        for what, bits in best(rows).items():
            sizes = sorted(bits)
            colour, marker = looks[what]
            axis.plot(sizes, [bits[size] for size in sizes], color=colour, marker=marker)
            # The lines fall: there is room right above their beginning and below their end.
            end = what == NETWORK
            axis.annotate(
                what,
                (sizes[-end], bits[sizes[-end]]),
                (4, -17) if end else (9, 5),
                textcoords="offset points",
                ha="right" if end else "left",
                color=colour,
            )
        axis.margins(y=0.22)
        axis.set_xscale("log")
        fixed_ticks(axis.xaxis, sorted(best(rows)[LZMA]), lambda size: f"{size / 1e6:g} MB")
        axis.set_xlabel("bytes of the artifact, at most")
        axis.set_ylabel("bits per byte")

    return Chart(
        "The fewest bits per byte of generic text in so many bytes",
        "Networks are trained for at most ten minutes of two cores.",
        [Panel(draw, "held-out generic text")],
    )


if __name__ == "__main__":
    write(chart, *sys.argv[1:])
