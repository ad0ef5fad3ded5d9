"""What repetition costs: importance sampling with caps and other remedies over sizes and budgets.

    python -m benchmarks.repetition --workdir=runs/repetition --out=runs/repetition/rows.jsonl
    python -m benchmarks.repetition ... --sizes=0.2M --tokens=4000000 --methods=slm,slm_is,cap4
    python -m benchmarks.repetition ... --methods=slm,slm_is,cap4 --heldout

Each cell pretrains, fine-tunes on the domain's specialist text and scores the model before and
after on validation windows, by which settings may be chosen; with --heldout on held-out windows as
well, which nothing may be chosen by. All models are stages of the work folder and every cell is one
JSON line of --out, so that a killed run goes on where it was. With --set use another --out.
"""

import argparse
import dataclasses
import itertools
import json
import runpy
import subprocess
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm.common import runtime

runtime.configure()

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.stages import Stage, Stages  # noqa: E402
from specialm.models import families, transformer  # noqa: E402
from specialm.training import runs, scoring, step  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining, repeats  # noqa: E402

ROOT = Path(__file__).parents[1]
SIZES = {
    "0.2M": (),  # configs/local/gpt2.py: 2 layers, d 64, vocabulary 1,024, context 128
    "1M": (
        "model.num_layers=4",
        "model.d_model=128",
        "model.d_ff=512",
        "data.vocabulary_size=2048",
        "data.context=256",
        "train.batch_size=32",
    ),
}
METHODS = {  # name -> changes of the config of importance sampling
    "slm": ("method=slm",),
    "slm_is": (),
    "cap1": ("clustering.max_repetitions=1.0",),
    "cap2": ("clustering.max_repetitions=2.0",),
    "cap4": ("clustering.max_repetitions=4.0",),
    "cap8": ("clustering.max_repetitions=8.0",),
    "smoothing0.5": ("clustering.smoothing=0.5",),
    "power0.5": ("clustering.power=0.5",),
    "k64": ("clustering.k=64",),
    "late0.5": ("train.importance_start=0.5",),
    "level1": (  # 16 clusters, the coarser level of a tree of 256
        "clustering.method=tree",
        "clustering.branching=(16, 16)",
        "clustering.level=1",
    ),
    "early": ("train.valid_every=50",),  # ends by the specialist's validation loss
    "auto": ("clustering.max_repetitions=auto",),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row."""

    size: str
    tokens: int
    method: str
    domain: str
    seed: int


def cells(options: argparse.Namespace) -> list[Cell]:
    """Seed after seed, so that a run that is cut short has all methods for the first ones."""
    return [
        Cell(size, tokens, method, domain, seed)
        for seed, size, tokens, domain, method in itertools.product(
            options.seeds, options.sizes, options.tokens, options.domains, options.methods
        )
    ]


def config_of(cell: Cell, options: argparse.Namespace) -> ConfigDict:
    """The settings of a cell; those of the command line last."""
    path = ROOT / "configs" / "local" / "gpt2.py"
    config = runpy.run_path(str(path))["get_config"]()
    config.method = methods.IMPORTANCE
    config.domains, config.train.tokens = tuple(options.domains), cell.tokens
    config.train.tensorboard, config.train.log_every = False, 100
    config.data.specialist_tokens = 50_000
    for change in (*SIZES[cell.size], *METHODS[cell.method], *options.set):
        config_lib.override(config, change)
    config_lib.check(config)
    return config.lock()


class Runs:
    """The prepared runs, which cells of other domains and seeds share."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.stages = options, Stages(Path(options.workdir), quiet=True)
        self._opened: tuple[tuple, pipeline.Run] | None = None

    def of(self, cell: Cell) -> pipeline.Run:
        """Opened anew when size, tokens or method change: the clusters are read, not computed."""
        key = (cell.size, cell.tokens, cell.method)
        if self._opened is None or self._opened[0] != key:
            config = config_of(cell, self.options)
            run = pipeline.open_run(
                config, self.stages.root, list(config.domains), (config.method,), self.stages
            )
            self._opened = key, run
        return self._opened[1]


def row(cell: Cell, run: pipeline.Run, heldout: bool) -> dict:
    """Trains, fine-tunes and scores; what is done already is reused."""
    method = run.config.method
    base = pretraining.pretrain(run, method, cell.domain, cell.seed)
    tuned = experts.specialize(run, base.path, cell.domain, cell.seed, base.fingerprint)
    facts = repeats.row(run, method, cell.domain, cell.seed)
    weights = pipeline.weigh(run, cell.domain).to_json()
    uniform = method == "slm"
    scores = {}
    for phase, stage in (("before", base), ("after", tuned)):
        scores[f"valid_{phase}"] = validation(run, stage, cell.domain)
        if heldout:
            label = f"repetition-{cell.domain}-{phase}"
            found = pipeline.score_heldout(run, stage.path, [cell.domain], stage.fingerprint, label)
            scores[f"heldout_{phase}"] = found[cell.domain].bits_per_byte
    return {
        **dataclasses.asdict(cell),
        **facts,
        "effective_fraction": 1.0 if uniform else weights["effective_fraction"],
        "moved_share": 0.0 if uniform else weights["moved_share"],
        "params": transformer.num_params(families.dense(run.model_config(method))),
        "train_loss": base.result["loss"],
        "best_step": tuned.result["best_step"],
        **scores,
        "seconds": base.seconds + tuned.seconds,
        "commit": commit(),
    }


def validation(run: pipeline.Run, stage: Stage, domain: str) -> float:
    """Bits per byte of a model on windows of the domain's validation documents."""
    store = run.prepared.domains[domain]["valid"]
    windows = store.subset(run.config.data.heldout_tokens)
    inputs = {"base": stage.fingerprint, "store": store.fingerprint, "windows": len(windows)}

    def work(path: Path) -> dict:
        model = runs.load(stage.path, run.mesh)
        score_step = step.make_score_step(families.dense(model.config), run.mesh)
        size = run.config.evaluate.batch_size
        score = scoring.score(score_step, model.params, store, windows, size, run.mesh, "")
        return {"bits_per_byte": score.bits_per_byte}

    return run.stages.run(f"scores/valid-{domain}", inputs, work).result["bits_per_byte"]


def commit() -> str:
    """The code's commit; "+" if files were changed after it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")


def read(path: Path) -> list[dict]:
    """The rows so far; a last line that was cut off is removed."""
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def is_done(cell: Cell, rows: list[dict], heldout: bool) -> bool:
    """Whether a cell has its row, with held-out scores where they are wanted."""
    wanted = dataclasses.asdict(cell)
    return any(
        wanted.items() <= row.items() and (not heldout or "heldout_after" in row) for row in rows
    )


def work_of(cell: Cell) -> float:
    """What a cell takes, in any unit: parameters times tokens, fine-tuning included."""
    return float(cell.size.rstrip("M")) * (cell.tokens + 600_000)


def tell(number: int, planned: list[Cell], line: dict, started: float) -> None:
    """A line of progress with the time left."""
    done = sum(work_of(cell) for cell in planned[:number])
    left = (time.time() - started) / done * sum(work_of(cell) for cell in planned[number:])
    cell = " ".join(str(line[field.name]) for field in dataclasses.fields(Cell))
    bits = f"{line['valid_before']:.4f}, {line['valid_after']:.4f} fine-tuned"
    print(
        f"[{number} of {len(planned)}] {cell}: {bits}; about {left / 60:.0f} min left", flush=True
    )


def summary(rows: list[dict], score: str) -> list[str]:
    """Mean bits per byte and repetitions over the domains and seeds of each method."""
    lines, groups = [], {}
    cells_done = {tuple(row[f.name] for f in dataclasses.fields(Cell)): row for row in rows}
    for found in (row for row in cells_done.values() if score in row):
        key = f"{found['size']:>5} {found['tokens']:>11,} {found['method']:<13}"
        values = [found[name] for name in (score, "expected_repetitions", "max_repetitions")]
        groups.setdefault(key, []).append(values)
    for key, values in groups.items():
        bits, mean, most = np.mean(values, axis=0)
        lines.append(f"{key} {bits:.4f} ({len(values)}), repetitions {mean:.1f}, most {most:.1f}")
    return lines


def main() -> None:
    def listed(kind):
        return lambda text: [kind(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/repetition")
    parser.add_argument("--out", default="runs/repetition/rows.jsonl")
    parser.add_argument("--sizes", type=listed(str), default=list(SIZES))
    parser.add_argument("--tokens", type=listed(int), default=[4_000_000, 20_000_000])
    parser.add_argument("--methods", type=listed(str), default=list(METHODS))
    parser.add_argument("--domains", type=listed(str), default=["med", "books", "ency"])
    parser.add_argument("--seeds", type=listed(int), default=[0, 1])
    parser.add_argument("--heldout", action="store_true", help="score held-out text as well")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")
    options = parser.parse_args()
    out, opened = Path(options.out), Runs(options)
    out.parent.mkdir(parents=True, exist_ok=True)
    left = [cell for cell in cells(options) if not is_done(cell, read(out), options.heldout)]
    if left:
        demo.fetch(config_of(left[0], options))
    started = time.time()
    for number, cell in enumerate(left, 1):
        line = row(cell, opened.of(cell), options.heldout)
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        tell(number, left, line, started)
    score = "heldout_after" if options.heldout else "valid_after"
    print("\n".join(summary(read(out), score)))


if __name__ == "__main__":
    main()
