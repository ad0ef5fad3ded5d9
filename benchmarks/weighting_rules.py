"""Rules for importance weights, each judged by n-gram models of what it draws.

    python -m benchmarks.weighting_rules --out=results/weights/rules.jsonl

For every rule, domain and budget an n-gram model is trained on the generic windows as often as they
would be drawn, mixed with one of the specialist training set, and scored on the specialist's
validation text: the proxy of `clustering.max_repetitions=auto`, whose ranking of trained models is
in results/README.md. Windows of 256 tokens, 256 clusters, all domains that have a licence. A few
minutes; finished rules are reused.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.cells import listed, read
from benchmarks.intervals import interval
from benchmarks.proxy import uniform_draws
from benchmarks.repetition import config_of
from benchmarks.repetition_grid import SEVEN, Cell
from specialm import methods
from specialm.common import code
from specialm.common.stages import Stages
from specialm.workflows import demo, pipeline, proxy

UNIFORM, DEFAULT = "uniform", "ratio, cap 8"
TREE = ("clustering.method=tree", "clustering.branching=(16, 16)", "clustering.level=2")
RULES: dict[str, tuple[str, ...]] = {  # name -> changes of the default: the plain ratio, cap 8
    UNIFORM: (),
    "ratio, no cap": ("clustering.max_repetitions=0.0",),
    DEFAULT: (),
    "cap by the proxy": ("clustering.max_repetitions=auto",),
    "power 0.5": ("clustering.power=0.5",),
    "power 0.8": ("clustering.power=0.8",),
    "smoothing 0.1": ("clustering.smoothing=0.1",),
    "smoothing 0.5": ("clustering.smoothing=0.5",),
    "64 clusters": ("clustering.k=64",),
    "tree, 256 leaves": TREE,
    "tree, backing off": (*TREE, "clustering.histogram=backoff"),
    "flat, backing off": ("clustering.histogram=backoff",),
    "tree, 16 nodes": (*TREE, "clustering.level=1"),
    "tree, depth by likelihood": (
        *TREE,
        "clustering.candidates=(1, 2)",
        "clustering.choose_by=likelihood",
    ),
    "all seven domains alike": (f"clustering.targets={SEVEN!r}",),
}


def draws(run: pipeline.Run, rule: str, domain: str) -> np.ndarray:
    """How often each generic window is drawn."""
    if rule == UNIFORM:
        return uniform_draws(run)
    return proxy.draws(pipeline.weigh(run, domain), run.clusters().generic_N)


def table(rows: list[dict]) -> str:
    """Bits per byte of every rule against uniform draws and the default, per cent, with 95%
    intervals over the domains.
    """
    budgets = sorted({row["tokens"] for row in rows})
    lines = [
        "| | " + " | ".join(f"{t / 1e6:g}M: against uniform | default" for t in budgets) + " |"
    ]
    lines.append("|---" * (1 + 2 * len(budgets)) + "|")
    bits = {(row["tokens"], row["rule"], row["domain"]): row["bits_per_byte"] for row in rows}
    for rule in RULES:
        cells = []
        for tokens in budgets:
            own = {d: bits[tokens, rule, d] for d in SEVEN if (tokens, rule, d) in bits}
            for base in (UNIFORM, DEFAULT):
                if rule == base or not own:
                    cells.append("")
                    continue
                found = np.array([100 * (own[d] / bits[tokens, base, d] - 1) for d in own])
                mean, half = interval(found)
                cells.append(f"{mean:+.2f} ± {half:.2f}")
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/weights/rules.jsonl"))
    parser.add_argument("--workdir", default="runs/repetition")
    parser.add_argument("--tokens", type=listed(int), default=[4_000_000, 20_000_000])
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")
    options = parser.parse_args()
    stages, rows = Stages(Path(options.workdir), quiet=True), read(options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    given, scorers = list(options.set), {}
    for tokens in options.tokens:
        for rule, changes in RULES.items():
            done = {(row["tokens"], row["rule"], row["domain"]) for row in rows}
            left = [domain for domain in SEVEN if (tokens, rule, domain) not in done]
            if not left:
                continue
            options.set = [*given, *changes]
            config = config_of(Cell("seven", "1M", tokens, "cap8", 1e-3, "", 0), options)
            demo.fetch(config)
            names = list(config.domains)
            run = pipeline.open_run(config, stages.root, names, (methods.IMPORTANCE,), stages)
            for domain in left:
                if domain not in scorers:
                    scorers[domain] = proxy.Proxy(run).scorer(domain)
                line = {"tokens": tokens, "rule": rule, "domain": domain}
                line["bits_per_byte"] = round(scorers[domain](draws(run, rule, domain)), 5)
                rows.append(line | code.made_by())
                with options.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(f"{rule}, {tokens:,} tokens, {domain}: {line['bits_per_byte']}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
