"""Why importance sampling helps: its gain as one size changes and all else stays.

    python -m benchmarks.why --out=results/why/rows.jsonl
    python -m benchmarks.why_figure results/why/rows.jsonl results/why/figure.png

`slm` and `slm_is` at a base, and at sizes beside it along each of AXES: model, budget, generic
corpus, specialist set. The cap on repetition is the same everywhere (CAP draws of a window), so
that no size repeats more than another; what is drawn how often stands in the rows. Scores are of
held-out windows, before and after fine-tuning. Seeds vary initial values and order. Finished runs
are reused, so the same command goes on after an interruption; --axes takes a part, so that two
processes can share a folder.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cells import add_names
from specialm.common import runtime

runtime.configure()

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.workflows import demo, experts, pipeline, pretraining, repeats  # noqa: E402

CAP = 2.0  # draws of a window
TOKENS, WIDTH, SPECIALIST = 2_000_000, 64, 50_000
METHODS = (methods.BASE, methods.IMPORTANCE)


def _width(size: int) -> dict:
    return {"model.d_model": size, "model.d_ff": round(4.5 * size), "model.num_heads": size // 16}


# {axis: {value: settings}}; the base is in each.
AXES: dict[str, dict[float, dict]] = {
    "width of the model": {size: _width(size) for size in (32, WIDTH, 128)},
    "tokens of pretraining": {n: {"train.tokens": n} for n in (1_000_000, TOKENS, 4_000_000)},
    "share of the generic corpus": {f: {"data.generic_fraction": f} for f in (0.25, 0.5, 1.0)},
    "specialist tokens": {n: {"data.specialist_tokens": n} for n in (5_000, 15_000, SPECIALIST)},
}


def config_of(args: argparse.Namespace, settings: dict):
    """The base with these settings."""
    base = {"train.tokens": TOKENS, "data.specialist_tokens": SPECIALIST, "methods": METHODS}
    given = {**base, "clustering.max_repetitions": CAP, **settings}
    words = [*(f"{name}={value}" for name, value in given.items()), *args.overrides]
    return config_lib.load(args.config, [f"--config.{word}" for word in words])


def cell(args: argparse.Namespace, axis: str, value: float, seed: int) -> Iterator[dict]:
    """Rows of one size: each method, domain and phase."""
    config = config_of(args, AXES[axis][value])
    domains = pipeline.domains_of(config)
    run = pipeline.open_run(config, Path(args.workdir), domains, used=METHODS)
    for method in METHODS:
        for domain in run.domains:
            first = pretraining.pretrain(run, method, domain, seed)
            tuned = experts.specialize(run, first.path, domain, seed, first.fingerprint)
            found = {}
            for phase, stage in (("before", first), ("after", tuned)):
                label = f"{method}-{domain}-{phase}-seed{seed}"
                scores = pipeline.score_heldout(run, stage.path, [domain], stage.fingerprint, label)
                found[f"{phase}_bits_per_byte"] = round(scores[domain].bits_per_byte, 5)
            yield {
                "axis": axis,
                "value": value,
                "method": method,
                "domain": domain,
                "seed": seed,
                "tokens": config.train.tokens,
                "params": transformer.num_params(run.model_config(method)),
                **found,
                **repeats.row(run, method, domain, seed),
                **code.made_by([first, tuned]),
            }


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--workdir", default="runs/why")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--seeds", type=int, default=3)
    add_names(parser, "--axes", AXES)
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Trains all sizes and writes their rows."""
    args = parsed(argv)
    base = config_of(args, {})
    if base.data.generic.startswith("corpora:"):
        demo.fetch(base)
    cells = [(a, value, seed) for seed in range(args.seeds) for a in args.axes for value in AXES[a]]
    rows, started = [], time.time()
    for done, each in enumerate(cells, 1):
        rows += cell(args, *each)
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(args.out), "".join(json.dumps(row) + "\n" for row in rows))
        left = (time.time() - started) / done * (len(cells) - done) / 60
        print(f"[{done} of {len(cells)}] about {left:.0f} min left", file=sys.stderr)


if __name__ == "__main__":
    main()
