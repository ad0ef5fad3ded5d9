"""The demo by the best recipe, as Markdown: bits per byte with 95% intervals over seeds.

    python -m benchmarks.recipe_table --rows=results/recipe/results.jsonl [--costs]

A method's gain is its change against `slm`, seed by seed. Rows of one seed, as those of compressor
and n-grams, which draw nothing, have no interval. --costs prints what training for N domains takes
instead, and what is served.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.intervals import interval
from specialm.evaluation.cost import Cost, total
from specialm.evaluation.perplexity import MACRO
from specialm.methods import BASE, METHODS, MIXED

ROWS = Path(__file__).resolve().parent.parent / "results/recipe/results.jsonl"
NAMES = {"lzma": "LZMA with all text in front", "ngram": "Kneser-Ney n-grams of all text"}
DOMAINS = (1, 3, 10, 30)  # for which costs are shown
PHASES = {"pretrained": "before fine-tuning", "finetuned": "after fine-tuning"}


def read(path: Path) -> list[dict]:
    """The rows."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def bits(rows: Sequence[dict], method: str, phase: str, domain: str) -> np.ndarray:
    """Bits per byte of a method, seed by seed."""
    wanted = {"method": method, "phase": phase, "domain": domain}
    own = [row for row in rows if wanted.items() <= row.items()]
    return np.array([row["bits_per_byte"] for row in sorted(own, key=lambda row: row["seed"])])


def gain(rows: Sequence[dict], method: str, phase: str = "finetuned") -> np.ndarray:
    """Change of the macro average against `slm`, per cent, seed by seed."""
    ours, base = (bits(rows, name, phase, MACRO) for name in (method, BASE))
    return 100 * (ours / base - 1)


def table(rows: list[dict]) -> list[str]:
    """The methods, each before and after fine-tuning."""
    domains = sorted({row["domain"] for row in rows} - {MACRO, "generic"})
    lines = [
        f"| | {' | '.join(domains)} | macro | against `slm` |",
        f"|---|{'---|' * len(domains)}---|---|",
    ]
    for method in _methods(rows):
        for phase, when in PHASES.items():
            values = [bits(rows, method, phase, domain) for domain in (*domains, MACRO)]
            if not len(values[-1]) or (method in NAMES and phase == "pretrained"):
                continue
            name = NAMES.get(method, f"`{method}`, {when}")
            other = (*NAMES, BASE)
            change = "" if method in other else _cell(gain(rows, method, phase), "+.1f", "%")
            cells = [name, *(_cell(value, ".3f") for value in values), change]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def cost(rows: Sequence[dict], method: str, domains: int) -> float:
    """FLOPs for N domains (C(N) of arXiv 2402.01093): pretraining, once or N times, and tuning."""
    before, after = (_mean(rows, method, phase, "train_flops") for phase in PHASES)
    aims = method == MIXED or METHODS[method].draws.aims
    once, each = (0.0, after) if aims else (before, after - before)
    return total(Cost(once), Cost(each), domains).flops


def costs(rows: Sequence[dict]) -> list[str]:
    """A line for each method: bits per byte, what is served, and C(N)."""
    lines = [
        "| | macro | served | " + " | ".join(f"C({count})" for count in DOMAINS) + " |",
        "|---|---|---|" + "---|" * len(DOMAINS),
    ]
    for method in _methods(rows):
        spent = [0.0 if method in NAMES else cost(rows, method, count) for count in DOMAINS]
        cells = [
            NAMES.get(method, f"`{method}`"),
            _cell(bits(rows, method, "finetuned", MACRO), ".3f"),
            f"{_mean(rows, method, 'finetuned', 'served_bytes') / 1e6:.1f} MB",
            *(f"{flops / 1e12:.0f}" for flops in spent),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _methods(rows: Sequence[dict]) -> list[str]:
    return sorted({row["method"] for row in rows}, key=lambda name: (name not in NAMES, name))


def _mean(rows: Sequence[dict], method: str, phase: str, field: str) -> float:
    """Of the macro average's rows over seeds."""
    wanted = {"method": method, "phase": phase, "domain": MACRO}
    return float(np.mean([row[field] for row in rows if wanted.items() <= row.items()]))


def _cell(values: np.ndarray, form: str, unit: str = "") -> str:
    if len(values) < 2:
        return f"{values.mean():{form}}{unit}"
    mean, half = interval(values)
    return f"{mean:{form}}{unit} ± {half:{form.lstrip('+')}}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=str(ROWS))
    parser.add_argument("--costs", action="store_true")
    options = parser.parse_args()
    print("\n".join((costs if options.costs else table)(read(Path(options.rows)))))


if __name__ == "__main__":
    main()
