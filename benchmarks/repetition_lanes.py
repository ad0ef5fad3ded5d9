"""The repetition grid on one accelerator: many of its cells in training at once, from a pack.

    python -m benchmarks.repetition_pack --out=runs/pack
    python -m benchmarks.repetition_lanes --pack=runs/pack --out=results/repetition/rows.jsonl

The cells, their order, the choice of rates and the rows are those of benchmarks.repetition; models
of one corpus, size and budget are trained --lanes at once (see benchmarks/lanes.py). Rows are
written when a group is done, and a killed run goes on with the groups that have none. With
--minutes no group begins that would not end in time. `seconds` is a cell's share of its group's.
"""

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.cells import read
from benchmarks.lanes import Lanes, Text, Watched, taken
from benchmarks.repetition import add_grid_options, chosen, config_of
from benchmarks.repetition_grid import Block, Cell, find, work_of
from benchmarks.repetition_pack import read_sampler
from specialm.common import code, runtime

runtime.configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from specialm import methods  # noqa: E402
from specialm.data.mixed import Late  # noqa: E402
from specialm.data.sampler import Sampler  # noqa: E402
from specialm.models import families, transformer  # noqa: E402
from specialm.specialize import finetune  # noqa: E402
from specialm.training import loop, optimizer  # noqa: E402

PRETRAIN_EVERY = 50  # steps in one call; `early` is validated as often


def model_of(cell: Cell) -> Cell:
    """What a cell fine-tunes; the domains share a model of `slm`, whose domain is ""."""
    return dataclasses.replace(cell, domain="") if cell.method == "slm" else cell


class Pack:
    """A file of windows, on the device."""

    def __init__(self, path: Path):
        with np.load(path) as arrays:
            self.arrays = dict(arrays)
        about = json.loads(str(self.arrays["about"]))
        self.parts, self.bytes = about["parts"], about["bytes"]
        self.vocabulary, self.sizes_N = about["vocabulary"], self.arrays["sizes"].astype(np.int32)
        self.text = Text(
            jnp.asarray(self.arrays["tokens"]), jnp.asarray(self.sizes_N), about["start"]
        )

    def part(self, name: str) -> np.ndarray:
        """The windows of a set."""
        return np.arange(*self.parts[name])

    def tokens(self, name: str) -> int:
        """Of all windows of a set."""
        return int(self.sizes_N[self.part(name)].sum())

    def stacked(self, names: Sequence[str]) -> np.ndarray:
        """int [R, N]: the windows of several sets, -1 after the end of each."""
        parts = [self.part(name) for name in names]
        most = max(map(len, parts))
        return np.stack([np.pad(p, (0, most - len(p)), constant_values=-1) for p in parts])

    def watched(self, domains: Sequence[str], patience: int) -> Watched:
        """Early stopping by each lane's domain."""
        names = [f"{domain}/valid" for domain in domains]
        return Watched(self.stacked(names), np.array(list(map(self.tokens, names))), patience)

    def bits(self, lanes: Lanes, params: Any, domains: Sequence[str], name: str) -> np.ndarray:
        """float64 [R]: bits per byte of each lane on a set of its domain."""
        names = [f"{domain}/{name}" for domain in domains]
        nats_R = lanes.nats(params, self.text, self.stacked(names))
        return nats_R / (np.log(2) * np.array([self.bytes[each] for each in names]))


class Grid:
    """Trains groups of models and their cells.

    Args:
      options: of the command line.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        lines = map(json.loads, (options.pack / "plan.jsonl").read_text().splitlines())
        names = ("corpus", "size", "tokens", "method", "domain", "seed")
        self._plan = {tuple(line[name] for name in names): line for line in lines}
        self._lanes: dict[transformer.Config, Lanes] = {}
        self.pack = cache(lambda corpus, size: Pack(options.pack / f"{corpus}-{size}.npz"))

    def planned(self, model: Cell) -> dict:
        """The line of the plan."""
        return self._plan[tuple(v for k, v in vars(model).items() if k != "learning_rate")]

    def rows(self, group: Sequence[Cell]) -> list[dict]:
        """The rows of cells of one corpus, size, budget and way of stopping."""
        started, first = time.perf_counter(), group[0]
        pack, config = self.pack(first.corpus, first.size), config_of(first, self.options)
        models = list(dict.fromkeys(map(model_of, group)))
        lanes = self._of(config, pack.vocabulary)
        params, facts = self._pretrain(lanes, config, pack, models)
        rows = []
        for start in range(0, len(group), self.options.lanes):
            cells = _filled(group[start : start + self.options.lanes], self.options.lanes)
            at_R = np.array([models.index(model_of(cell)) for cell in cells])
            found = self._tune(lanes, pack, cells, taken(params, at_R))
            for cell, lane, row in zip(group[start:], at_R, found, strict=False):
                rows.append(dataclasses.asdict(cell) | facts[lane] | row)
        about = {
            "seconds": round((time.perf_counter() - started) / len(group), 1),
            "device": jax.devices()[0].device_kind,
            **code.made_by(),
        }
        about["commit"] = about["commit"] or self.planned(models[0])["commit"]  # of the pack
        return [row | about for row in rows]

    def _of(self, config: ConfigDict, vocabulary: int) -> Lanes:
        model = families.dense(methods.model_config(config, config.method, vocabulary, 0))
        if model not in self._lanes:
            self._lanes[model] = Lanes(model, config.train)
        return self._lanes[model]

    def _pretrain(self, lanes: Lanes, config: ConfigDict, pack: Pack, models: list[Cell]):
        """(stacked parameters, what rows say of each model's pretraining)."""
        parts, facts = [], []
        for start in range(0, len(models), self.options.lanes):
            some = models[start : start + self.options.lanes]
            full = _filled(some, self.options.lanes)
            steps = loop.num_steps(config.train, config.data.context)
            samplers = [read_sampler(self.planned(m)["sampler"], pack.arrays) for m in full]
            drawn_SxRxB = np.stack([stream(sampler, steps) for sampler in samplers], axis=1)
            watched = None
            if config.train.valid_every:
                watched = pack.watched([m.domain for m in full], config.train.patience)
            fitted = lanes.fit(
                lanes.init(np.array([m.seed for m in full])),
                pack.text,
                drawn_SxRxB,
                rates(config.train, steps),
                np.array([m.learning_rate for m in full]),
                PRETRAIN_EVERY,
                watched,
                "pretraining",
            )
            parts.append(taken(fitted.params, np.arange(len(some))))
            for model, loss in zip(some, fitted.loss_R, strict=False):
                params = transformer.num_params(lanes.model)
                said = self.planned(model)["facts"]
                facts.append({**said, "params": params, "train_loss": round(float(loss), 5)})
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts), facts

    def _tune(self, lanes: Lanes, pack: Pack, cells: Sequence[Cell], params: Any) -> list[dict]:
        domains = [cell.domain for cell in cells]
        tunes = [self._tuning(cell, pack) for cell in cells]
        limits = {tune.max_steps for _, tune in tunes}
        train, tune = tunes[0]
        if len(limits) > 1:
            raise ValueError(f"lanes of one group end after {sorted(limits)} steps")
        parts = [pack.part(f"{domain}/train") for domain in domains]
        orders = [
            Sampler(len(p), tune.batch_size, c.seed) for p, c in zip(parts, cells, strict=True)
        ]
        drawn_SxRxB = np.stack(
            [p[stream(o, tune.max_steps)] for p, o in zip(parts, orders, strict=True)], axis=1
        )
        scores = {f"{name}_before": _bits(pack, lanes, params, domains, name) for name in SCORED}
        fitted = lanes.fit(
            params,
            pack.text,
            drawn_SxRxB,
            rates(finetune.settings(train, tune), tune.max_steps),
            np.array([tune.learning_rate for _, tune in tunes]),
            tune.eval_every,
            pack.watched(domains, tune.patience),
            "fine-tuning",
        )
        for name in SCORED:
            scores[f"{name}_after"] = _bits(pack, lanes, fitted.params, domains, name)
        rows = []
        for lane in range(len(cells)):
            bits = {name: round(float(values[lane]), 5) for name, values in scores.items()}
            rows.append({"best_step": int(fitted.best_step_R[lane]), **bits})
        return rows

    def _tuning(self, cell: Cell, pack: Pack) -> tuple[ConfigDict, ConfigDict]:
        """(settings of training, of fine-tuning) for a cell's specialist set."""
        config = config_of(cell, self.options)
        sizes = SimpleNamespace(sizes_N=pack.sizes_N)
        parts = (pack.part(f"{cell.domain}/{name}") for name in ("train", "valid"))
        train_N, valid_N = parts
        specialist = finetune.Specialist(cell.domain, sizes, train_N, sizes, valid_N)  # type: ignore[arg-type]
        return config.train, finetune.for_set(config.train, config.finetune, specialist, False)


SCORED = ("valid", "heldout")


def _bits(pack: Pack, lanes: Lanes, params: Any, domains: Sequence[str], name: str) -> np.ndarray:
    return pack.bits(lanes, params, domains, "valid_all" if name == "valid" else name)


def stream(sampler: Sampler | Late, steps: int) -> np.ndarray:
    """int32 [S, B]: the windows of every step, faster than a step at a time."""
    if isinstance(sampler, Late):
        first = min(sampler.first, steps)
        before, after = stream(sampler.before, first), stream(sampler.after, steps)
        return np.concatenate([before, after[first:]])
    drawn, _ = sampler.draws(0, steps * sampler.batch_size // sampler.group)
    return drawn.reshape(steps, sampler.batch_size).astype(np.int32)


def rates(train: ConfigDict, steps: int) -> np.ndarray:
    """float32 [S]: the learning rate of every step, as a multiple of the highest."""
    unit = copy.deepcopy(train).unlock()
    unit.learning_rate = 1.0
    return np.asarray(jax.vmap(optimizer.schedule(unit, steps))(jnp.arange(steps)), np.float32)


def _filled(items: Sequence, count: int) -> list:
    """The same with the last one repeated, so that all groups are one program."""
    return [*items, *[items[-1]] * (count - len(items))]


def groups(block: Block, rows: list[dict], options: argparse.Namespace) -> Iterator[list[Cell]]:
    """The cells without a row: first those of the first seed, by whose rows a rate is chosen, then
    the others of the methods that have all of these; those that stop early apart. Ask for the next
    group when the last has its rows.
    """
    first = dataclasses.replace(block, seeds=block.seeds[:1])
    yield from _parts(first, rows, options)
    ready = [m for m in block.methods if not _left(dataclasses.replace(first, methods=[m]), rows)]
    yield from _parts(dataclasses.replace(block, methods=ready), rows, options)


def _left(block: Block, rows: list[dict]) -> list[Cell]:
    """The cells without a row."""
    return [cell for cell in block.cells(rows) if not find(cell, rows)]


def _parts(block: Block, rows: list[dict], options: argparse.Namespace) -> Iterator[list[Cell]]:
    waiting: dict[bool, list[Cell]] = {}
    for cell in _left(block, rows):
        early = bool(config_of(cell, options).train.valid_every)
        waiting.setdefault(early, []).append(cell)
    for cells in waiting.values():
        yield from _split(cells, options.lanes)


def _split(cells: list[Cell], lanes: int) -> Iterator[list[Cell]]:
    """Parts of at most so many models; a model's cells stay together."""
    models = list(dict.fromkeys(map(model_of, cells)))
    for start in range(0, len(models), lanes):
        some = models[start : start + lanes]
        yield [cell for cell in cells if model_of(cell) in some]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=Path("runs/pack"))
    parser.add_argument("--out", type=Path, default=Path("runs/repetition/rows.jsonl"))
    parser.add_argument("--lanes", type=int, default=8, help="models at once")
    parser.add_argument("--minutes", type=float, default=0.0, help="0 for no limit")
    add_grid_options(parser)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    grid, rows, started = Grid(options), read(options.out), time.time()
    seconds_per_work = 0.0
    for block in chosen(options):
        for group in groups(block, rows, options):
            models = dict.fromkeys(map(model_of, group))
            work = sum(work_of(model) for model in models)
            left = 60 * options.minutes - (time.time() - started)
            if options.minutes and work * seconds_per_work > left:
                print(f"not begun, {left:.0f} s are left: {group[0]} and {len(group) - 1} more")
                continue
            began = time.time()
            found = grid.rows(group)
            seconds_per_work = (time.time() - began) / work
            rows += found
            with options.out.open("a") as file:
                file.write("".join(json.dumps(row) + "\n" for row in found))
            mean = np.mean([row["valid_after"] for row in found])
            print(f"{group[0]} and {len(group) - 1} more: {mean:.4f} bits per byte on validation "
                  f"text, {time.time() - began:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
