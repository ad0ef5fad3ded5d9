"""The repetition grid as tables: bits per byte of each method against plain pretraining.

python -m benchmarks.repetition_table results/repetition/grid.jsonl

A method's change is held-out bits per byte after fine-tuning against `slm` of the same domain and
seed, each at its rate chosen on validation text, mean over the domains; the interval is Student's
95% over the seeds, and stands only where there are three seeds or more.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.intervals import interval
from benchmarks.repetition_grid import METHODS, at_best_rates

PLAIN = "slm"
FEWEST = 3  # seeds of an interval

NAMES = {
    "slm": "`slm`: plain pretraining",
    "slm_is": "`slm_is`, as published",
    "cap1": "cap 1",
    "cap2": "cap 2",
    "cap4": "cap 4",
    "cap8": "cap 8, the default",
    "auto": "cap chosen by the proxy",
    "smoothing0.5": "smoothing 0.5",
    "power0.5": "weights to the power 0.5",
    "k64": "64 clusters",
    "level1": "16 clusters, the coarser level of a tree",
    "late0.5": "generic first half",
    "early": "ended by validation loss",
}


@dataclass(frozen=True)
class Setting:
    """What cells share that are compared."""

    corpus: str
    size: str
    tokens: int


@dataclass(frozen=True)
class Found:
    """A method in a setting.

    Attributes:
      bits: held-out bits per byte after fine-tuning, mean over domains and seeds.
      change_S: of each seed against plain pretraining, as a share, mean over the domains.
      better: of how many of the pairs of domain and seed it is better.
      pairs: how many there are.
      repetitions: expected, mean over the draws.
      most: in the most drawn cluster.
    """

    bits: float
    change_S: np.ndarray
    better: int
    pairs: int
    repetitions: float
    most: float


def settings(rows: Sequence[dict]) -> list[Setting]:
    """In the order of the rows' sizes and budgets, the default corpus first."""
    found = {Setting(row["corpus"], row["size"], row["tokens"]) for row in rows}
    return sorted(found, key=lambda s: (s.corpus, float(s.size.rstrip("M")), s.tokens))


def found(rows: Sequence[dict], setting: Setting, method: str) -> Found | None:
    """None without rows. Pairs without a row of plain pretraining are left out."""
    own = [
        row
        for row in at_best_rates(rows)
        if Setting(row["corpus"], row["size"], row["tokens"]) == setting
    ]
    by = {(row["method"], row["domain"], row["seed"]): row for row in own}
    pairs = [key[1:] for key in by if key[0] == method and (PLAIN, *key[1:]) in by]
    if not pairs:
        return None
    changes: dict[int, list[float]] = {}
    for domain, seed in pairs:
        ours, plain = (by[name, domain, seed]["heldout_after"] for name in (method, PLAIN))
        changes.setdefault(seed, []).append(ours / plain - 1)
    domains = max(len(values) for values in changes.values())
    whole = [np.mean(values) for values in changes.values() if len(values) == domains]
    mine = [by[method, domain, seed] for domain, seed in pairs]
    means = [np.mean([row[name] for row in mine]) for name in COLUMNS]
    better = sum(change < 0 for values in changes.values() for change in values)
    return Found(means[0], np.array(whole), better, len(pairs), *means[1:])


COLUMNS = ("heldout_after", "expected_repetitions", "max_repetitions")


def change(of: Found) -> str:
    """The change in percent with its interval, or how many seeds it is of."""
    if len(of.change_S) >= FEWEST:
        mean, half = interval(100 * of.change_S)
        return f"{mean:+.1f} ± {half:.1f}%"
    count = len(of.change_S)
    return f"{100 * of.change_S.mean():+.1f}% ({count} seed{'s' if count > 1 else ''})"


def table(rows: Sequence[dict], of: Sequence[Setting]) -> str:
    """Methods by settings: bits, change in percent, repetitions (most)."""
    lines = ["| | " + " | ".join(title(setting) for setting in of) + " |"]
    lines.append("|---" * (len(of) + 1) + "|")
    for method in METHODS:
        cells = [found(rows, setting, method) for setting in of]
        if any(cells):
            texts = [_cell(method, cell) if cell else "–" for cell in cells]
            lines.append(f"| {NAMES[method]} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def title(setting: Setting) -> str:
    """Of a column."""
    return f"{setting.size}, {setting.tokens / 1e6:g}M tokens"


def _cell(method: str, of: Found) -> str:
    repeated = f"{of.repetitions:.3g} ({of.most:.3g})"
    parts = [f"{of.bits:.3f}"] + ([] if method == PLAIN else [change(of)]) + [repeated]
    return "; ".join(parts)


def tables(rows: Sequence[dict]) -> dict[str, str]:
    """Corpus -> its table."""
    every = settings(rows)
    return {
        corpus: table(rows, [setting for setting in every if setting.corpus == corpus])
        for corpus in dict.fromkeys(setting.corpus for setting in every)
    }


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    for name, text in tables([json.loads(line) for line in lines]).items():
        print(f"{name}\n\n{text}\n")
