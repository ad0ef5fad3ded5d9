"""How well the n-gram proxy ranks ways to draw: against the trained models of the repetition grid.

    python -m benchmarks.proxy --out=results/repetition/proxy.jsonl

For every size, budget and domain of the rows the proxy scores each method's draws, as
`clustering.max_repetitions=auto` does. One JSON line each, with the trained models' bits per byte
on validation text after fine-tuning (mean over the seeds); then, by size and budget, the rank
correlation, and what is lost by taking the method that the proxy likes best instead of the best.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.cells import read
from benchmarks.repetition import Runs, config_of
from benchmarks.repetition_grid import CORPORA, METHODS, Cell, at_best_rates
from specialm.common import code
from specialm.workflows import demo, pipeline, proxy

TOLD_APART = tuple(name for name in METHODS if name not in ("auto", "late0.5", "early"))


def score(run: pipeline.Run, cell: Cell, scorers: dict) -> float:
    """The proxy's bits per byte; it knows how often windows are drawn, not in which order."""
    key = (cell.corpus, cell.size, cell.domain)
    if key not in scorers:
        scorers[key] = proxy.Proxy(run).scorer(cell.domain)
    if cell.method == "slm":
        draws_N = uniform_draws(run)
    else:
        draws_N = proxy.draws(pipeline.weigh(run, cell.domain), run.clusters().generic_N)
    return scorers[key](draws_N)


def uniform_draws(run: pipeline.Run) -> np.ndarray:
    """How often each generic window is drawn if all are drawn alike, float64 [N]: the expectation,
    rounded down or up.
    """
    count = len(run.generic)
    rate = pipeline.planned_windows(run.config) / count
    whole_N = np.full(count, np.floor(rate))
    return whole_N + (np.random.default_rng(0).random(count) < rate - whole_N)


def trained(rows: list[dict], cell: Cell) -> float | None:
    """Mean over the seeds of the validation score after fine-tuning; None without rows."""
    names = ("corpus", "size", "tokens", "method", "domain")
    found = [row for row in rows if all(row[name] == getattr(cell, name) for name in names)]
    return float(np.mean([row["valid_after"] for row in found])) if found else None


def summary(lines: list[dict]) -> list[str]:
    """By size and budget: rank correlation, and bits lost by the proxy's choice; both means over
    the domains.
    """
    said = []
    keys = sorted({(line["corpus"], line["size"], line["tokens"]) for line in lines})
    for corpus, size, tokens in keys:
        ranks, lost = [], []
        for domain in sorted({line["domain"] for line in lines}):
            of = [
                line
                for line in lines
                if (line["corpus"], line["size"]) == (corpus, size)
                and (line["tokens"], line["domain"]) == (tokens, domain)
            ]
            if len(of) < 3:
                continue
            ours, theirs = (np.array([line[name] for line in of]) for name in ("proxy", "trained"))
            ranks.append(stats.spearmanr(ours, theirs).statistic)
            lost.append(theirs[ours.argmin()] / theirs.min() - 1)
        if ranks:
            said.append(
                f"{corpus:<8} {size:>5} {tokens:>11,}: rank correlation {np.mean(ranks):.2f}, "
                f"lost by the proxy's choice {np.mean(lost):.2%}, at most {np.max(lost):.2%}"
            )
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="results/repetition/rows.jsonl")
    parser.add_argument("--out", default="results/repetition/proxy.jsonl")
    parser.add_argument("--workdir", default="runs/repetition")
    parser.add_argument("--domains", default=["med", "books", "ency"])
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")
    options = parser.parse_args()
    rows = at_best_rates([row for row in read(Path(options.rows)) if row["corpus"] in CORPORA])
    opened, scorers = Runs(options), {}
    # The earlier corpus cannot be prepared any more: its lines stay.
    lines = [line for line in read(Path(options.out)) if line["corpus"] not in CORPORA]
    keys = sorted({(row["corpus"], row["size"], row["tokens"]) for row in rows})
    for key, domain, method in itertools.product(keys, options.domains, TOLD_APART):
        cell = Cell(*key, method, 1e-3, domain, 0)
        value = trained(rows, cell)
        if value is None:
            continue
        demo.fetch(config_of(cell, options))
        found = score(opened.of(cell), cell, scorers)
        names = ("corpus", "size", "tokens", "method", "domain")
        lines.append({name: getattr(cell, name) for name in names})
        lines[-1] |= {"proxy": found, "trained": value, **code.made_by()}
        print(json.dumps(lines[-1]), flush=True)
    Path(options.out).write_text("".join(json.dumps(line) + "\n" for line in lines))
    print("\n".join(summary(lines)))


if __name__ == "__main__":
    main()
