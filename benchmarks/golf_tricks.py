"""What each trick of size golf changes, at equal time of training.

    python -m benchmarks.golf_tricks --minutes=1 --out=results/golf/tricks.jsonl

The steps of all entries are timed in turn, on a machine that does nothing else, and each gets as
many tokens as --minutes of the clock then allow, without compiling. After that they are trained and
scored by benchmarks.golf, whose options these are; the same command goes on after an interruption.
"""

import statistics
import sys
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks import golf, golf_table, turns  # noqa: E402
from benchmarks.golf_entries import ENTRIES, config_of  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.files import write_json  # noqa: E402
from specialm.models import families  # noqa: E402
from specialm.training import quantized  # noqa: E402
from specialm.workflows import pipeline  # noqa: E402

# What fills the bytes is no trick.
TRICKS = [name for name in ENTRIES if not name.startswith("all") and ENTRIES[name].small]
ROUNDS, STEPS = 5, 8  # steps of an entry in a round


def plan(args, names: list[str]) -> None:
    """Writes the tokens of the entries, as `golf.row` reads them, unless they are there."""
    files, sides, sizes = {}, {}, {}
    for name in names:
        entry, workdir = ENTRIES[name], Path(args.workdir)
        width = golf.width_of(entry, args)
        run = pipeline.open_run(config_of(entry, args, width), workdir, [])
        model, train = run.model_config(methods.BASE), run.config.train
        drawn = np.random.default_rng(0).integers(len(run.generic), size=(2, train.batch_size))
        batches = [run.generic.batch(indices) for indices in drawn]
        # Steps of training for few bits are timed with the rounding, which half of them have.
        rounding = quantized.of_training(train, 0, families.declare(model))
        pieces = run.prepared.vocabulary.pieces
        sides[name] = turns.Training(model, train, batches, pieces, rounding).steps
        files[name] = golf.plan_file(name, width, args)
        sizes[name] = train.batch_size * run.generic.context
    if all(file.exists() for file in files.values()):
        return
    times = turns.timed(sides, ROUNDS, STEPS)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    for name, file in files.items():
        if "quantize_bits" in ENTRIES[name].train:
            seconds[name] = (seconds[name] + seconds[ENTRIES[name].over]) / 2
        steps = int(60 * args.minutes / seconds[name])
        print(f"{name}: {1e3 * seconds[name]:.0f} ms a step", file=sys.stderr)
        write_json(file, {"tokens": steps * sizes[name], "seconds_per_step": seconds[name]})


def main(argv: list[str] | None = None) -> None:
    """Plans, trains and scores the entries, and prints what each trick changes."""
    words = sys.argv[1:] if argv is None else argv
    args = golf.parsed(words)
    plan(args, TRICKS)
    if not args.entries:
        words = [*words, f"--entries={'; '.join(TRICKS)}"]
    golf.main(words)
    if args.out:
        print(golf_table.tricks(golf.read(args.out)))


if __name__ == "__main__":
    main()
