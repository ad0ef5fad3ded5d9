"""What each trick of size golf changes, at equal time of training.

    python -m benchmarks.golf_tricks --minutes=1 --out=results/golf/tricks.jsonl

The steps of all entries are timed in turn, on a machine that does nothing else, and each gets as
many tokens as --minutes of the clock then allow, without compiling. After that they are trained and
scored by benchmarks.golf, whose options these are; the same command goes on after an interruption.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks import golf, golf_table, recipe_table, turns  # noqa: E402
from benchmarks.golf_entries import ENTRIES, config_of  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.files import write_json  # noqa: E402
from specialm.models import families  # noqa: E402
from specialm.training import quantized  # noqa: E402
from specialm.workflows import pipeline  # noqa: E402

# What fills the bytes is no trick.
TRICKS = [name for name in ENTRIES if not name.startswith("all") and ENTRIES[name].small]
ROUNDS, STEPS = 5, 8  # steps of an entry in a round


def plan(args: argparse.Namespace, names: list[str]) -> None:
    """Writes the tokens of the entries, as `golf.row` reads them, unless they are there."""
    entries = {name: Planned.of(name, args) for name in names}
    if all(entry.file.exists() for entry in entries.values()):
        return
    sides = {entry.training: entry.side() for entry in entries.values()}
    times = turns.timed(sides, ROUNDS, STEPS)
    for name, entry in entries.items():
        seconds = statistics.median(times[entry.training])
        if "quantize_bits" in ENTRIES[name].train:  # half of the steps round the weights
            seconds = (seconds + statistics.median(times[entries[ENTRIES[name].over].training])) / 2
        tokens = int(60 * args.minutes / seconds) * entry.step_tokens
        print(f"{name}: {1e3 * seconds:.0f} ms a step, {tokens:,} tokens", file=sys.stderr)
        entry.file.parent.mkdir(parents=True, exist_ok=True)
        write_json(entry.file, {"tokens": tokens, "seconds_per_step": seconds})


@dataclass(frozen=True)
class Planned:
    """An entry before it is trained.

    Attributes:
      file: where its tokens stand.
      run: with its config.
      training: the same for entries that are trained alike.
    """

    file: Path
    run: pipeline.Run
    training: str

    @classmethod
    def of(cls, name: str, args: argparse.Namespace) -> "Planned":
        """An entry of the table."""
        width = golf.width_of(ENTRIES[name], args)
        config = config_of(ENTRIES[name], args, width)
        run = pipeline.open_run(config, Path(args.workdir), [])
        training = json.dumps([config[part].to_json() for part in ("model", "train", "data")])
        return cls(golf.plan_file(name, width, args), run, training)

    @property
    def step_tokens(self) -> int:
        return self.run.config.train.batch_size * self.run.generic.context

    def side(self) -> Callable[[int], None]:
        """Takes so many steps."""
        train, store = self.run.config.train, self.run.generic
        model = self.run.model_config(methods.BASE)
        drawn = np.random.default_rng(0).integers(len(store), size=(2, train.batch_size))
        batches = [store.batch(indices) for indices in drawn]
        rounding = quantized.of_training(train, 0, families.declare(model))
        pieces = self.run.prepared.vocabulary.pieces
        return turns.Training(model, train, batches, pieces, rounding).steps


def main(argv: list[str] | None = None) -> None:
    """Plans, trains and scores the entries, and prints what each trick changes."""
    words = sys.argv[1:] if argv is None else argv
    args = golf.parsed(words)
    plan(args, TRICKS)
    if not args.entries:
        words = [*words, f"--entries={'; '.join(TRICKS)}"]
    golf.main(words)
    if args.out:
        print(golf_table.tricks(recipe_table.read(Path(args.out))))


if __name__ == "__main__":
    main()
