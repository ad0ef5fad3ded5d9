"""What repetition costs: importance sampling with caps and other remedies over sizes and budgets.

    python -m benchmarks.repetition --out=results/repetition/rows.jsonl    # the whole grid
    python -m benchmarks.repetition ... --sizes=0.2M --tokens=4000000 --methods=slm,slm_is,cap4

Each cell pretrains, fine-tunes on the domain's specialist text and scores the model before and
after on validation windows, by which rates and settings may be chosen, and on held-out windows,
which nothing may be chosen by. All models are stages of the work folder and every cell is one JSON
line of --out, so that a killed run goes on where it was. benchmarks/repetition_grid.py has the
grid. With --set use another --out.
"""

import argparse
import dataclasses
import json
import runpy
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from benchmarks.cells import listed, read
from benchmarks.repetition_grid import (
    CORPORA,
    DOMAINS,
    GRID,
    METHODS,
    SEVEN,
    SIZES,
    Block,
    Cell,
    find,
    work_left,
    work_of,
)
from specialm.common import code, runtime

runtime.configure()

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.stages import Stage, Stages  # noqa: E402
from specialm.models import families, transformer  # noqa: E402
from specialm.training import runs, scoring, step  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining, repeats  # noqa: E402

ROOT = Path(__file__).parents[1]


def config_of(cell: Cell, options: argparse.Namespace) -> ConfigDict:
    """The settings of a cell; those of the command line last."""
    path = ROOT / "configs" / "local" / "slm.py"
    config = runpy.run_path(str(path))["get_config"]()
    config.method = methods.IMPORTANCE
    config.domains, config.train.tokens = DOMAINS, cell.tokens
    if cell.corpus == "seven":
        config.domains, config.clustering.seed = SEVEN, cell.seed
    config.train.tensorboard, config.train.log_every = False, 100
    config.data.specialist_tokens = 50_000
    config.train.learning_rate, config.finetune.learning_rate = cell.learning_rate, 0.0
    changes = (*SIZES[cell.size], *CORPORA[cell.corpus], *METHODS[cell.method], *options.set)
    for change in changes:
        config_lib.override(config, change)
    config_lib.check(config)
    return config.lock()


class Runs:
    """The prepared runs, which cells of other domains and seeds share."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.stages = options, Stages(Path(options.workdir), quiet=True)
        self._opened: tuple[str, pipeline.Run] | None = None

    def of(self, cell: Cell) -> pipeline.Run:
        """Opened anew for another config: the clusters are read, not computed."""
        config = config_of(cell, self.options)
        key = config.to_json()
        if self._opened is None or self._opened[0] != key:
            run = pipeline.open_run(
                config, self.stages.root, list(config.domains), (config.method,), self.stages
            )
            self._opened = key, run
        return self._opened[1]


def facts(cell: Cell, run: pipeline.Run) -> dict:
    """What a row says of the draws, before anything is trained."""
    uniform = run.config.method == "slm"
    weights = {} if uniform else pipeline.weigh(run, cell.domain).to_json()
    return {
        **repeats.row(run, run.config.method, cell.domain, cell.seed),
        "effective_fraction": 1.0 if uniform else weights["effective_fraction"],
        "moved_share": 0.0 if uniform else weights["moved_share"],
    }


def row(cell: Cell, run: pipeline.Run) -> dict:
    """Trains, fine-tunes and scores; what is done already is reused."""
    method = run.config.method
    base = pretraining.pretrain(run, method, cell.domain, cell.seed)
    tuned = experts.specialize(run, base.path, cell.domain, cell.seed, base.fingerprint)
    scores = {}
    for phase, stage in (("before", base), ("after", tuned)):
        scores[f"valid_{phase}"] = validation(run, stage, cell.domain)
        label = f"repetition-{cell.domain}-{phase}"
        found = pipeline.score_heldout(run, stage.path, [cell.domain], stage.fingerprint, label)
        scores[f"heldout_{phase}"] = found[cell.domain].bits_per_byte
    return {
        **dataclasses.asdict(cell),
        **facts(cell, run),
        "params": transformer.num_params(families.dense(run.model_config(method))),
        "train_loss": base.result["loss"],
        "best_step": tuned.result["best_step"],
        **scores,
        "seconds": base.seconds + tuned.seconds,
        **code.made_by([base, tuned]),
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


def tell(cell: Cell, line: dict, done: float, left: float, started: float) -> None:
    """A line of progress with the time left."""
    minutes = (time.time() - started) / done * left / 60
    name = " ".join(str(value) for value in dataclasses.astuple(cell))
    bits = f"{line['valid_before']:.4f}, {line['valid_after']:.4f} fine-tuned"
    print(f"{name}: {bits}; about {minutes:.0f} min left", flush=True)


def summary(rows: list[dict]) -> list[str]:
    """Mean bits per byte on validation text and repetitions, over the domains and seeds."""
    lines, groups = [], {}
    cells_done = {tuple(row[f.name] for f in dataclasses.fields(Cell)): row for row in rows}
    for row in cells_done.values():
        key = (
            f"{row['corpus']:<8} {row['size']:>5} {row['tokens']:>11,} {row['method']:<13} "
            f"{row['learning_rate']:<6g}"
        )
        names = ("valid_after", "expected_repetitions", "max_repetitions")
        groups.setdefault(key, []).append([row[name] for name in names])
    for key, values in groups.items():
        bits, mean, most = np.mean(values, axis=0)
        lines.append(f"{key} {bits:.4f} ({len(values)}), repetitions {mean:.1f}, most {most:.1f}")
    return lines


def chosen(options: argparse.Namespace) -> list[Block]:
    """The blocks of the grid, less what the options leave out."""
    blocks = []
    for block in GRID:
        if all(
            getattr(block, name) in (asked or [getattr(block, name)])
            for name, asked in (
                ("corpus", options.corpora),
                ("size", options.sizes),
                ("tokens", options.tokens),
            )
        ):
            methods = tuple(m for m in block.methods if m in (options.methods or block.methods))
            blocks.append(dataclasses.replace(block, methods=methods))
    return blocks


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """Which part of the grid, and changes of its configs."""
    parser.add_argument("--corpora", type=listed(str), help="those of the grid only")
    parser.add_argument("--sizes", type=listed(str))
    parser.add_argument("--tokens", type=listed(int))
    parser.add_argument("--methods", type=listed(str))
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE of the config")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/repetition")
    parser.add_argument("--out", default="runs/repetition/rows.jsonl")
    add_grid_options(parser)
    options = parser.parse_args()
    out, opened, blocks = Path(options.out), Runs(options), chosen(options)
    out.parent.mkdir(parents=True, exist_ok=True)
    started, done, rows = time.time(), 0.0, read(out)
    for block in blocks:
        for cell in block.cells(rows):
            if find(cell, rows):
                continue
            if not done:
                demo.fetch(config_of(cell, options))
            line = row(cell, opened.of(cell))
            rows.append(line)
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            done += work_of(cell)
            tell(cell, line, done, work_left(blocks, rows), started)
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
