"""Draws bits per byte against expected repetitions from the rows of benchmarks.repetition.

python -m benchmarks.repetition_figure results/repetition/rows.jsonl results/repetition/figure.png
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

Key = tuple[int, str, int]  # tokens, method, seed
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


def draw(rows: list[dict], path: Path) -> None:
    """One panel a budget; the line is plain pretraining, on uniformly drawn windows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores, repeats = macro(rows, "heldout_after"), macro(rows, "expected_repetitions")
    budgets = sorted({tokens for tokens, *_ in scores})
    figure, panels = pyplot.subplots(1, len(budgets), figsize=(5.2 * len(budgets), 4.4))
    for axis, budget in zip(np.atleast_1d(panels), budgets, strict=True):
        points = {key: score for key, score in scores.items() if key[0] == budget}
        base = np.mean([score for (_, method, _), score in points.items() if method == "slm"])
        axis.axhline(base, color="#000000", linewidth=1, linestyle=":")
        axis.text(0.99, base, "SLM", ha="right", va="bottom", transform=axis.get_yaxis_transform())
        labelled: set[str] = set()
        for (tokens, method, seed), score in sorted(points.items()):
            capped = method.startswith("cap")
            colour = "#0072B2" if capped else "#D55E00" if method == "slm_is" else "#777777"
            x = repeats[tokens, method, seed]
            axis.plot(x, score, "o" if seed == 0 else "s", color=colour, markersize=6)
            if method not in labelled:
                axis.annotate(method, (x, score), (5, 4), textcoords="offset points", fontsize=8)
            labelled.add(method)
        axis.set_xscale("log", base=2)
        axis.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axis.set_xlim(
            0.8 * min(repeats[key] for key in points), 1.5 * max(repeats[key] for key in points)
        )
        axis.set_title(f"{budget / 1e6:g}M tokens of pretraining")
        axis.set_xlabel("expected repetitions, mean over the draws")
        axis.grid(alpha=0.3)
    np.atleast_1d(panels)[0].set_ylabel("bits per byte after fine-tuning, macro")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    draw([json.loads(line) for line in lines], Path(sys.argv[2]))
