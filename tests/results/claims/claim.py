"""What a claim is, and how rows are read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
RESULTS, FRONT, PLANNING = "results/README.md", "README.md", "docs/planning.md"
ADAPTATION = "docs/adaptation.md"
DOMAINS = ("books", "ency", "med")
DEMO, BANK, BANK50 = "demo/results.jsonl", "bank/results.jsonl", "bank/tokens50k.jsonl"
N = r"([-\d.,]+)"  # a number


@dataclass(frozen=True)
class Claim:
    """A pattern that matches one place in a file, and the numbers that its groups have."""

    file: str
    pattern: str
    numbers: Callable[[], list[float]]


def both(*parts: Callable[[], list[float]]) -> Callable[[], list[float]]:
    return lambda: [number for part in parts for number in part()]


@cache
def rows(name: str) -> tuple[dict, ...]:
    lines = (ROOT / "results" / name).read_text().splitlines()
    return tuple(json.loads(line) for line in lines)


def of(name: str, field: str = "perplexity", **where) -> list[float]:
    """The field of the rows that have these values, in the order of their seeds."""
    found = [r for r in rows(name) if all(r.get(key) == value for key, value in where.items())]
    assert found, (name, where)
    return [row[field] for row in sorted(found, key=lambda row: row.get("seed", 0))]


def gains(name: str, method: str, phase: str, field: str = "perplexity") -> np.ndarray:
    """Change against slm of the macro average, per cent, by seed."""
    ours, base = (
        np.array(of(name, field, method=m, phase=phase, domain="macro")) for m in (method, "slm")
    )
    return 100 * (ours / base - 1)


def spread(values) -> list[float]:
    return [float(np.mean(values)), float(np.std(values, ddof=1))]


def positive(values: list[float]) -> list[float]:
    return [-values[0], *values[1:]]
