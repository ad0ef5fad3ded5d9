"""The recipe of the local configs, one change at a time: bits per byte at equal time.

    python -m benchmarks.ladder --out=results/ladder/rows.jsonl --minutes=1

From a start, each rung changes one thing of the best recipe so far and is trained for as many
minutes of all cores, counted in processor time, compiling included; the tokens are as many as a
trial says. A rung is kept if it is better by more than the 95% interval of its difference, seed by
seed. Where a change may move the best learning rate, half and twice the rate are tried with the
first seed. Then the start and the last recipe are trained for each of --curve minutes. Scores are
of the specialist domains' validation windows before fine-tuning, in macro average: a choice is
never made on held-out text. Finished runs are reused, so the same command goes on after an
interruption; it rewrites --out.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks import processor_time  # noqa: E402
from benchmarks.architecture import score  # noqa: E402
from benchmarks.cells import add_names  # noqa: E402
from benchmarks.intervals import interval  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.workflows import demo, pipeline, pretraining  # noqa: E402

RATE = "train.learning_rate"
START = {
    "model.num_layers": 2,
    "model.d_model": 64,
    "model.num_heads": 4,
    "model.d_ff": 288,
    "model.positions": "rope",
    "model.embedder": "tokens",
    "data.vocabulary_size": 1024,
    "data.context": 128,
    "train.optimizer": "adamw",
    "train.batch_size": 64,
    RATE: 8e-3,
}
TABLES = {"model.embedder": "ngrams", "model.ngram_rows": 131_072}


@dataclass(frozen=True)
class Rung:
    """One change of the best recipe so far.

    Attributes:
      changes: settings.
      rates: whether other learning rates are tried.
    """

    changes: dict
    rates: bool = False


RUNGS = {
    "start": Rung({}, rates=True),
    "32 windows a step": Rung({"train.batch_size": 32}, rates=True),
    "16 windows a step": Rung({"train.batch_size": 16}),
    "table of bigrams and trigrams": Rung(TABLES, rates=True),
    "four times the rows": Rung({"model.ngram_rows": 524_288}),
    "up to 4-grams": Rung({"model.ngram_order": 4}),
    "Muon": Rung({"train.optimizer": "muon"}, rates=True),
    "four layers": Rung({"model.num_layers": 4}),
    "one layer": Rung({"model.num_layers": 1}),
    "width 96": Rung({"model.d_model": 96, "model.d_ff": 432, "model.num_heads": 6}),
    "windows of 256": Rung({"data.context": 256, "train.batch_size": 16}),
    "2,048 pieces": Rung({"data.vocabulary_size": 2048}),
    "4,096 pieces": Rung({"data.vocabulary_size": 4096}),
    "RMSNorm, SwiGLU, no biases": Rung(
        {"model.norm": "rmsnorm", "model.mlp": "swiglu", "model.d_ff": 192, "model.biases": False}
    ),
    "QK-norm": Rung({"model.qk_norm": True}),
    "constant, then linear to 0": Rung(
        {"train.schedule": "linear", "train.decay_fraction": 0.3, "train.final_fraction": 0.0}
    ),
    "no weight decay": Rung({"train.weight_decay": 0.0}),
}


class Ladder:
    """The rungs under way."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.rows: list[dict] = []

    def cell(self, name: str, recipe: dict, seed: int, minutes: float, search: bool) -> float:
        """Bits per byte of a recipe, which is trained, or read where it was."""
        run, tokens = self._planned(recipe, minutes)
        folder = Path(self.args.workdir) / "ladder"
        folder.mkdir(parents=True, exist_ok=True)
        time_file = folder / f"{tokens}-{code_of(recipe)}-{minutes:g}-seed{seed}.json"
        with processor_time.measured(time_file):
            stage = pretraining.pretrain(run, methods.BASE, "", seed)
        bits = score(run, stage.path)
        row = {
            "rung": name,
            "recipe": recipe,
            "seed": seed,
            "minutes": minutes,
            "search": search,
            "spent_minutes": round(processor_time.read(time_file), 2),
            "tokens": tokens,
            "params": transformer.num_params(run.model_config(methods.BASE)),
            "valid_bits_per_byte": {domain: round(value, 5) for domain, value in bits.items()},
            "macro": round(float(np.mean(list(bits.values()))), 5),
            **code.made_by([stage]),
        }
        self.rows.append(row)
        Path(self.args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(self.args.out), "".join(json.dumps(each) + "\n" for each in self.rows))
        print(f"{name}, rate {recipe[RATE]:g}, seed {seed}: {row['macro']}", flush=True)
        return row["macro"]

    def _planned(self, recipe: dict, minutes: float) -> tuple[pipeline.Run, int]:
        """(the run of a recipe with its tokens, these)."""

        def opened(tokens: int) -> pipeline.Run:
            given = {**recipe, "train.tokens": tokens}
            words = [f"--config.{key}={value}" for key, value in given.items()]
            words += [f"--config.{each}" for each in self.args.overrides]
            config = config_lib.load(self.args.config, words)
            return pipeline.open_run(config, Path(self.args.workdir), pipeline.domains_of(config))

        timed = code_of({key: value for key, value in recipe.items() if key != RATE})
        plan = Path(self.args.workdir) / "ladder" / f"plan-{timed}-{minutes:g}"
        first = opened(1)
        tokens = processor_time.tokens_for(first, methods.BASE, plan / "plan.json", minutes)
        return opened(tokens), tokens

    def climb(self) -> dict:
        """Tries all rungs; the recipe at the end."""
        best, started = dict(START), time.time()
        names = self.args.rungs
        for done, name in enumerate(names, 1):
            best = self._rung(name, RUNGS[name], best)
            left = (time.time() - started) / done * (len(names) - done)
            print(f"[{done} of {len(names)}] about {left / 60:.0f} min left", file=sys.stderr)
        return best

    def _rung(self, name: str, rung: Rung, best: dict) -> dict:
        """The better of the best recipe and its change."""
        minutes, recipe = self.args.minutes, {**best, **rung.changes}
        if rung.rates:
            rates = [recipe[RATE], recipe[RATE] / 2, recipe[RATE] * 2]
            tried = {r: self.cell(name, {**recipe, RATE: r}, 0, minutes, True) for r in rates}
            recipe[RATE] = min(tried, key=tried.__getitem__)
        for seed in range(self.args.seeds):
            self.cell(name, recipe, seed, minutes, False)
        return recipe if not rung.changes or is_better(self.rows, name) else best


def code_of(recipe: dict) -> str:
    """A name of a recipe's settings for files."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:10]


def final(rows: list[dict], name: str) -> np.ndarray:
    """Bits per byte of a rung, seed by seed."""
    own = [row for row in rows if row["rung"] == name and not row["search"]]
    return np.array([row["macro"] for row in sorted(own, key=lambda row: row["seed"])])


def kept(rows: list[dict]) -> Iterator[str]:
    """The rungs that were kept, in their order."""
    best = ""
    for name in dict.fromkeys(row["rung"] for row in rows if row["rung"] in RUNGS):
        if not best or _difference(rows, name, best)[1] < 0:
            best = name
            yield name


def is_better(rows: list[dict], name: str) -> bool:
    """Whether the last rung is kept."""
    return list(kept(rows))[-1] == name


def _difference(rows: list[dict], name: str, best: str) -> tuple[float, float]:
    """(mean difference to the best rung before in per cent, the upper end of its interval)."""
    change = 100 * (final(rows, name) / final(rows, best) - 1)
    if len(change) < 2:
        return float(change.mean()), float(change.mean())
    mean, half = interval(change)
    return mean, mean + half


def table(rows: list[dict]) -> list[str]:
    """The rungs as Markdown, each against the best before it."""
    lines = [
        "| change | parameters | rate | tokens | bits per byte | against the best before | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    best, on_ladder = "", set(kept(rows))
    for name in dict.fromkeys(row["rung"] for row in rows if row["rung"] in RUNGS):
        first = next(row for row in rows if row["rung"] == name and not row["search"])
        mean, upper = _difference(rows, name, best) if best else (0.0, 0.0)
        cells = [
            name,
            f"{first['params']:,}",
            f"{first['recipe'][RATE]:g}",
            f"{first['tokens']:,}",
            f"{final(rows, name).mean():.4f}",
            f"{mean:+.1f}% ± {upper - mean:.1f}" if best else "",
            "yes" if name in on_ladder else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        best = name if name in on_ladder else best
    return lines


def main(argv: list[str] | None = None) -> None:
    """Climbs, then trains the first and the last recipe for longer, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--workdir", default="runs/ladder")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    add_names(parser, "--rungs", RUNGS)
    parser.add_argument("--curve", default="", help="minutes, with commas between")
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    args = parser.parse_args(argv)
    demo.fetch(config_lib.load(args.config, [f"--config.{each}" for each in args.overrides]))
    ladder = Ladder(args)
    last = ladder.climb()
    start = next(row["recipe"] for row in ladder.rows if not row["search"])
    for minutes in (float(each) for each in args.curve.split(",") if each):
        for name, recipe in (("first recipe", start), ("last recipe", last)):
            ladder.cell(name, recipe, 0, minutes, False)
    print("\n".join(table(ladder.rows)))


if __name__ == "__main__":
    main()
