"""What a person would use instead: an open checkpoint, ours from it, ours from scratch, n-grams.

    python -m benchmarks.open_model --out=results/open_model/rows.jsonl           # the whole table
    python -m benchmarks.open_model ... --methods=ngram,lzma,open --domains=med   # a part of it

All rows have the same windows of the open model's vocabulary: bits per byte of validation text, by
which a method's learning rate is chosen, and of held-out text, which nothing is chosen by, before
and after fine-tuning; bytes served, FLOPs of all that was trained here and seconds. All models are
stages of the work folder and every cell is one JSON line of --out: a killed run goes on where it
was. The cheap rows come first; those of the whole table take an accelerator, on which several
processes, each with domains or methods and an --out of its own, share one work folder.
"""

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.cells import listed, read
from benchmarks.repetition import validation
from benchmarks.repetition_grid import DOMAINS, Cell, best_rates, find
from specialm.common import code, runtime

runtime.configure()

import jax  # noqa: E402

from specialm.common.files import remove_folder  # noqa: E402
from specialm.common.stages import Stage, Stages  # noqa: E402
from specialm.models import families  # noqa: E402
from specialm.training import runs  # noqa: E402
from specialm.workflows import (  # noqa: E402
    baselines,
    continuing,
    demo,
    experts,
    finetuning,
    initial,
    open_models,
    pipeline,
    pretraining,
    resizing,
    stage_keys,
)

MODEL = "smollm2-135m"
RATES = (1e-4, 3e-4)
SMALL = {"num_layers": 12, "d_model": 288, "num_heads": 6, "num_kv_heads": 3, "d_ff": 768}
BASELINES = ("ngram", "lzma")
KEPT = ("open_ft", "small_is")  # whose models others learn from, or start as
COUNTED = ("pretrained/", "experts/", "losses/", "finetuned/", "scores/")  # in a row's seconds


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to a domain's model.

    Attributes:
      method: what pretraining goes on as; "" does not pretrain.
      settings: changes of the config.
      budgets: tokens of pretraining.
      rates: learning rates of which validation text decides.
      small: starts from the open model reduced to `SMALL`.
      random: starts from random numbers, with the rate of training from scratch.
      taught: distilled from the open model that was fine-tuned on the domain.
    """

    method: str = ""
    settings: tuple[str, ...] = ()
    budgets: tuple[int, ...] = (0,)
    rates: tuple[float, ...] = RATES
    small: bool = False
    random: bool = False
    taught: bool = False


TWO = (200_000, 500_000)
BANK = (
    "model.num_experts=8",
    "train.groups=2",
    "train.param_dtype=bfloat16",
    "train.moment_dtype=bfloat16",
    "train.second_moment_dtype=bfloat16",
    "expert.choice=soup",
)
WAYS = {  # in the order in which the rows are worth having
    "ngram": Way(rates=(0.0,)),
    "lzma": Way(rates=(0.0,)),
    "open": Way(settings=("finetune.max_steps=0",), rates=(0.0,)),
    "open_ft": Way(),
    "open_lora": Way(settings=("finetune.lora_rank=16",), rates=(3e-4, 1e-3)),
    "open_is": Way("slm_is", budgets=TWO),
    "open_mixed": Way("slm_is", ("train.specialist_fraction=0.2",), TWO),
    "open_pn": Way("slm_pn", BANK, TWO),
    "small_is": Way("slm_is", budgets=TWO, rates=(3e-4, 1e-3), small=True),
    "small_taught": Way("slm_is", budgets=TWO, rates=(3e-4, 1e-3), small=True, taught=True),
    "scratch_is": Way("slm_is", budgets=TWO, rates=(1e-3, 3e-3), small=True, random=True),
}


class Models:
    """Trains what a cell asks for."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.stages = Stages(Path(options.workdir), quiet=True)
        self._kept: set[Path] = set()  # models that are not forgotten

    def overrides(self, cell: Cell, method: str, settings: Sequence[str]) -> list[str]:
        """The settings of a cell, as on a command line."""
        changes = [
            "data.specialist_tokens=50000",
            "clustering.encoder=tfidf_svd",  # as in the local configs
            f"method={method or 'slm'}",
            f"train.tokens={cell.tokens or 200_000}",
            "train.tensorboard=False",
            "train.log_every=10",
            f"domains={tuple(self.options.domains)!r}",
            f"model.dtype={self.options.dtype}",
            *self.options.set,
            *settings,
        ]
        if cell.learning_rate:
            changes.append(f"finetune.learning_rate={cell.learning_rate}")
            changes.append(f"train.init_learning_rate={cell.learning_rate}")
        return [f"--config.{change}" for change in changes]

    def open(
        self, cell: Cell, base: Path, method: str, settings: Sequence[str] = ()
    ) -> pipeline.Run:
        """The data, cut with the vocabulary of the model in `base`, which training goes on from."""
        init = initial.read(base, stage_keys.checkpoint_key(base))
        config = continuing.load_config(init, "", self.overrides(cell, method, settings), True)
        demo.fetch(config)
        used = (method,) if method else ()
        domains = list(config.domains)
        return pipeline.open_run(config, self.stages.root, domains, used, self.stages, init)

    @cached_property
    def base(self) -> Path:
        """The run folder of the open model."""
        if self.options.init:
            return Path(self.options.init)
        dtype = self.options.dtype
        return open_models.import_model({"model": MODEL}, self.stages.root, 0, dtype).path

    @cached_property
    def reduced(self) -> Path:
        """The run folder of the open model with `SMALL` sizes."""
        path = self.base
        whole = initial.read(path, stage_keys.checkpoint_key(path), "from")
        small = [f"--config.model.{name}={value}" for name, value in self.options.small.items()]
        target = resizing.target_sizes(whole.config, small)
        return resizing.resize(whole, "selection", target, 0.0, self.stages.root).path

    def row(self, cell: Cell) -> dict:
        """Trains, fine-tunes and scores; what is done already is reused."""
        if cell.method in BASELINES:
            return self._baseline(cell)
        way = WAYS[cell.method]
        path = self.reduced if way.small else self.base
        run = self.open(cell, path, way.method, way.settings)
        start, key = path, stage_keys.checkpoint_key(path)
        before = len(self.stages.done)
        if way.random:
            run = self._from_scratch(run, cell)
        if way.method:
            stage = pretraining.pretrain(run, way.method, cell.domain, cell.seed)
            start, key = stage.path, stage.fingerprint
        tuned = start, key
        if run.config.finetune.max_steps:
            teacher = self._teacher(cell) if way.taught else None
            made = experts.specialize(run, start, cell.domain, cell.seed, key, teacher)
            if expert := experts.taken(run, start, cell.domain, key, made):
                start, key = expert.path, expert.fingerprint
            tuned = made.path, made.fingerprint
        line = dataclasses.asdict(cell)
        for phase, (folder, fingerprint) in (("before", (start, key)), ("after", tuned)):
            line |= self._scores(run, cell, folder, fingerprint, phase)
        return line | self._costs(run, tuned[0]) | {"seconds": self._seconds(before)}

    def _from_scratch(self, run: pipeline.Run, cell: Cell) -> pipeline.Run:
        config = copy.deepcopy(run.config).unlock()
        config.train.learning_rate = cell.learning_rate
        return dataclasses.replace(run, config=config.lock(), init=None)

    def _teacher(self, cell: Cell) -> finetuning.Teacher:
        """The open model, fine-tuned on the domain at the lower rate."""
        path = self.base
        ours = dataclasses.replace(cell, method="open_ft", tokens=0, learning_rate=RATES[0])
        run = self.open(ours, path, "")
        stage = experts.specialize(
            run, path, cell.domain, cell.seed, stage_keys.checkpoint_key(path)
        )
        self._kept.add(stage.path)
        return finetuning.Teacher(stage.path, stage.fingerprint)

    def _scores(self, run: pipeline.Run, cell: Cell, path: Path, key: str, phase: str) -> dict:
        stage = Stage("", path, {}, 0.0, True, key)
        label = f"open-model-{cell.domain}-{phase}"
        held = pipeline.score_heldout(run, path, [cell.domain], key, label)[cell.domain]
        return {
            f"valid_{phase}": validation(run, stage, cell.domain),
            f"heldout_{phase}": held.bits_per_byte,
        }

    def _costs(self, run: pipeline.Run, path: Path) -> dict:
        return {
            "params": families.num_params(initial.read(path, "").config),
            **demo.costs(run, path),
        }

    def _baseline(self, cell: Cell) -> dict:
        run = self.open(cell, self.base, "")
        run = dataclasses.replace(run, domains=[cell.domain])
        (found,) = (
            row
            for row in baselines.rows(run, [cell.method], cell.seed)
            if row["domain"] == cell.domain
        )
        names = ("served_bytes", "train_flops", "seconds")
        return {
            **dataclasses.asdict(cell),
            "heldout_after": found["bits_per_byte"],
            **{name: found[name] for name in names},
        }

    def forget(self, cell: Cell) -> None:
        """Removes the models that were made for a cell alone; a bank is of all domains."""
        made = {s.path for s in self.stages.done if (s.path / "model.json").is_file()} - self._kept
        if cell.method in KEPT:
            self._kept |= made
            return
        for path in made:
            if runs.read_record(path)["domain"] == cell.domain:
                remove_folder(path)

    def _seconds(self, before: int) -> float:
        """Of the models and scores among the stages after the first `before`; of reused ones what
        they took when they were computed.
        """
        done = self.stages.done[before:]
        stages = {stage.path: stage.seconds for stage in done if stage.name.startswith(COUNTED)}
        return sum(stages.values())


def cells(options: argparse.Namespace, rows: Sequence[dict]) -> Iterator[Cell]:
    """The cells, in order. Ask for the next one when those before have their rows: a method's
    first seed runs all of its rates, the others the best one.
    """
    for seed in options.seeds:
        for name in options.methods:
            way = WAYS[name]
            for tokens in way.budgets:
                if tokens and options.budgets and tokens not in options.budgets:
                    continue
                rates: Sequence[float] = way.rates
                if seed != options.seeds[0] and len(rates) > 1:
                    rates = [chosen_rates(rows)["default", MODEL, tokens, name]]
                for rate in rates:
                    for domain in options.domains:
                        yield Cell("default", MODEL, tokens, name, rate, domain, seed)


def chosen_rates(rows: Sequence[dict]) -> dict[tuple[str, str, int, str], float]:
    """By validation text, see `best_rates`; baselines have none."""
    return best_rates([row for row in rows if "valid_after" in row])


def table(rows: Sequence[dict], domains: Sequence[str]) -> list[str]:
    """Held-out bits per byte after fine-tuning at each method's rate, mean over the seeds."""
    chosen = chosen_rates(rows)
    lines = ["| method | tokens | " + " | ".join(domains) + " | MB served | FLOPs | seconds |"]
    lines.append("|---" * (len(domains) + 5) + "|")
    groups: dict[tuple, dict[str, list[dict]]] = {}
    for row in rows:
        key = ("default", row["size"], row["tokens"], row["method"])
        if chosen.get(key, row["learning_rate"]) == row["learning_rate"]:
            groups.setdefault(key, {}).setdefault(row["domain"], []).append(row)
    for (_, _, tokens, method), found in groups.items():
        scores = [
            f"{np.mean([row['heldout_after'] for row in found[d]]):.3f}" if d in found else "–"
            for d in domains
        ]
        every = [row for part in found.values() for row in part]
        megabytes = np.mean([row["served_bytes"] for row in every]) / 1e6
        flops, seconds = (np.mean([row[name] for row in every]) for name in COSTS)
        what = f"{megabytes:.0f} | {flops:.2g} | {seconds:.0f} |"
        lines.append(f"| `{method}` | {tokens:,} | " + " | ".join(scores) + f" | {what}")
    return lines


COSTS = ("train_flops", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/open_model")
    parser.add_argument("--out", type=Path, default=Path("runs/open_model/rows.jsonl"))
    parser.add_argument("--methods", type=listed(str), default=list(WAYS))
    parser.add_argument("--domains", type=listed(str), default=list(DOMAINS))
    parser.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    parser.add_argument("--budgets", type=listed(int), default=[], help="of pretraining, some only")
    parser.add_argument("--dtype", default="float32", help="of matrix products, or bfloat16")
    parser.add_argument(
        "--forget", action="store_true", help="remove models that have their row: all take 100 GB"
    )
    parser.add_argument("--init", default="", help=f"a run folder, instead of {MODEL}")
    parser.add_argument("--small", type=json.loads, default=SMALL, help="sizes, as JSON")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")
    options = parser.parse_args()
    models, rows = Models(options), read(options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    started, done = time.time(), 0
    for cell in cells(options, rows):
        if find(cell, rows):
            continue
        facts = {"dtype": options.dtype, "device": jax.devices()[0].device_kind}
        rows.append({**models.row(cell), **facts, **code.made_by(models.stages.done)})
        with options.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        if options.forget:
            models.forget(cell)
        done += 1
        left = _left(options, rows) * (time.time() - started) / done / 60
        bits = rows[-1]["heldout_after"]
        print(f"{cell.method} {cell.tokens} {cell.learning_rate:g} {cell.domain} {cell.seed}: "
              f"{bits:.4f} bits per byte; about {left:.0f} min left", flush=True)  # fmt: skip
    print("\n".join(table(rows, options.domains)))


def _left(options: argparse.Namespace, rows: Sequence[dict]) -> int:
    """Cells without a row; all alike, which they are not."""
    count = 0
    for name in options.methods:
        way = WAYS[name]
        rates = len(way.rates) + len(options.seeds) - 1
        budgets = [t for t in way.budgets if not t or t in (options.budgets or way.budgets)]
        count += rates * len(budgets) * len(options.domains)
    wanted = {"method": options.methods, "domain": options.domains, "seed": options.seeds}
    have = sum(all(row[key] in values for key, values in wanted.items()) for row in rows)
    return max(0, count - have)


if __name__ == "__main__":
    main()
