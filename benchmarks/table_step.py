"""What a table of n-grams costs a training step, however large it is.

    python -m benchmarks.table_step --out=results/recipe/step.jsonl

The model of configs/local/slm.py without a table, and with tables of --rows rows for each of
bigrams and trigrams, trained in turn on the same batches of the generic corpus: medians of the
rounds, and of their ratios.
"""

import argparse
import json
import statistics
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks.turns import Training, timed  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.workflows import demo, pipeline  # noqa: E402

NONE, STEPS = 0, 8  # no rows: no table; steps of a side in a round


def rows(args: argparse.Namespace) -> list[dict]:
    """A row for each table."""
    base = config_lib.load(args.config, [f"--config.{each}" for each in args.overrides])
    if base.data.generic.startswith("corpora:"):
        demo.fetch(base)
    store = pipeline.open_run(base, Path(args.workdir), []).generic
    size = base.train.batch_size
    drawn = np.random.default_rng(0).integers(len(store), size=(STEPS, size))
    batches = [store.batch(indices) for indices in drawn]
    sides = {}
    for count in (NONE, *(int(each) for each in args.rows.split(","))):
        config = config_lib.default()
        config.update(base.to_dict())
        if count != NONE:
            config.model.embedder, config.model.ngram_rows = "ngrams", count
        model = methods.dense_config(config, config.data.vocabulary_size)
        sides[count] = Training(model, config.train, batches)
    times = timed({count: side.steps for count, side in sides.items()}, args.rounds, STEPS)
    return [
        {
            "rows_of_a_length": count,
            "params": transformer.num_params(side.model),
            "windows": size,
            "step_ms": round(1e3 * statistics.median(times[count]), 2),
            "against_none": round(
                statistics.median(a / b for a, b in zip(times[count], times[NONE], strict=True)), 3
            ),
            **code.made_by([]),
        }
        for count, side in sides.items()
    ]


def main(argv: list[str] | None = None) -> None:
    """Times the steps and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--workdir", default="runs/table_step")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--rows", default="16384,131072,1048576")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    args = parser.parse_args(argv)
    lines = [json.dumps(row) for row in rows(args)]
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(args.out), "".join(f"{line}\n" for line in lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
