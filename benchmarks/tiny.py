"""Tiny models: bits per byte at equal training FLOPs of dense vocabulary, bytes, shared weights.

    python -m benchmarks.tiny --out=results/tiny/rows.jsonl --tokens=1000000 --seeds=3

Every model has about the parameters of the dense one of configs/local/slm.py, so about its bytes
where it is served, and is pretrained on the generic corpus on as many tokens as it can read with
the FLOPs that the dense one takes for --tokens. Each has a learning rate of its own: the best of
RATES, and beyond while the best is at the end, by the specialist domains' validation windows after
--search_tokens with seed 0. Scores are of held-out windows, generic and of the domains, before
fine-tuning. Finished runs are reused, so the same command goes on after an interruption; it
rewrites --out. With --rates=ROWS rates are those of another study's rows, and nothing is searched.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks.cells import add_names  # noqa: E402
from benchmarks.intervals import interval  # noqa: E402
from benchmarks.recipe_table import read  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common import code  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.training import runs, scoring, step  # noqa: E402
from specialm.workflows import demo, pipeline, pretraining  # noqa: E402

DENSE = "dense vocabulary"
BYTES = {"embedder": "bytes", "byte_size": 16, "byte_heads": 2, "d_ff": 416}
SPELT = {"byte_size": 32, "byte_layers": 0, "embed_rank": 16}
DEEP = {"num_layers": 4}  # with the parameters of two layers, or little more
MODELS: dict[str, dict] = {
    DENSE: {},
    "byte-pooled, at once": {**BYTES, "head": "bytes"},
    "byte-pooled, in turn": {**BYTES, "head": "bytes_in_turn"},
    "byte-pooled, tied": {**BYTES, "d_ff": 512},
    "byte-pooled, tied, 16 own numbers": {**BYTES, **SPELT, "d_ff": 440},
    "factored table": {"embedder": "factored", "embed_rank": 27, "d_ff": 440},
    "plain bytes": {"d_ff": 480},
    "shared MLP": {**DEEP, "share": ("mlp:all",)},
    "shared MLP, low rank": {**DEEP, "share": ("mlp:all+low_rank",), "share_rank": 4},
    "loop of two blocks": {**DEEP, "share": ("block:cycle-2",)},
}
# Windows of about as many bytes, cut by a vocabulary of its own.
VOCABULARIES = {"plain bytes": {"vocabulary_kind": "bytes", "vocabulary_size": 259, "context": 256}}
RATES = (4e-3, 8e-3, 16e-3)
BATCH = 8  # windows a step: with so few tokens many small steps are better than few large ones


@dataclass(frozen=True)
class Cell:
    """One training: a model, its learning rate, and for which tokens of the dense one."""

    model: str
    rate: float
    seed: int
    tokens: int
    search: bool


def config_of(base, cell: Cell):
    """The config of a cell, with the tokens that equal FLOPs give."""

    def flops(config) -> int:
        model = methods.dense_config(config, config.data.vocabulary_size)
        return transformer.flops_per_token(model, train=True)

    config = config_lib.default()
    config.update(base.to_dict())
    config.model.update(MODELS[cell.model])
    config.data.update(VOCABULARIES.get(cell.model, {}))
    config.train.batch_size = base.train.batch_size * base.data.context // config.data.context
    config.train.tokens = round(cell.tokens * flops(base) / flops(config))
    config.train.learning_rate = cell.rate
    return config.lock()


def row(run: pipeline.Run, cell: Cell) -> dict:
    """Trains a model, or reads the one that was trained; its figures."""
    stage = pretraining.pretrain(run, methods.BASE, "", cell.seed)
    model = run.model_config(methods.BASE)
    parts = transformer.params_by_part(model)
    trained = runs.load(stage.path, run.mesh)
    score_step = step.make_score_step(trained.config, run.mesh)

    def bits(windows: dict) -> dict[str, float]:
        return {
            name: round(
                scoring.score(score_step, trained.params, *each, 64, run.mesh).bits_per_byte, 5
            )
            for name, each in windows.items()
        }

    domains = {name: pipeline.specialist(run, name) for name in run.domains}
    valid = {name: (part.valid_store, part.valid_indices) for name, part in domains.items()}
    found = {
        "model": cell.model,
        "learning_rate": cell.rate,
        "seed": cell.seed,
        "search": cell.search,
        "params": transformer.num_params(model),
        "embedding_and_head": sum(parts.get(part, 0) for part in ("embed", "heads")),
        "train_flops_per_token": transformer.flops_per_token(model, train=True),
        "tokens": run.config.train.tokens,
        "seconds": round(stage.result["seconds"], 1),
        "valid_bits_per_byte": bits(valid),
    }
    if not cell.search:
        names = ["generic", *run.domains]
        found["bits_per_byte"] = bits({name: pipeline.heldout(run, name) for name in names})
    return found | code.made_by([stage])


def best_rate(loss: Callable[[float], float]) -> float:
    """The rate of the least loss: of RATES, and twice or half as large while that is better."""
    losses = {rate: loss(rate) for rate in RATES}
    while (best := min(losses, key=losses.__getitem__)) in (min(losses), max(losses)):
        following = best * 2 if best == max(losses) else best / 2
        losses[following] = loss(following)
    return best


def table(rows: list[dict]) -> list[str]:
    """Means over the seeds of the final rows as Markdown.

    The last columns are differences to the dense vocabulary, seed by seed, in per cent: mean and
    half of the 95% interval by Student's t.
    """
    final = [each for each in rows if not each["search"]]
    domains = [name for name in final[0]["bits_per_byte"] if name != "generic"]

    def values(name: str, sets: list[str]) -> np.ndarray:
        own = sorted((each for each in final if each["model"] == name), key=lambda r: r["seed"])
        return np.array([np.mean([each["bits_per_byte"][s] for s in sets]) for each in own])

    def change(name: str, sets: list[str]) -> str:
        paired = zip(values(name, sets), values(DENSE, sets), strict=False)
        gains = np.array([100 * (own / dense - 1) for own, dense in paired])
        if len(gains) < 2:
            return f"{gains.mean():+.1f}%"
        return "{:+.1f}% ± {:.1f}".format(*interval(gains))

    lines = [
        "| model | parameters | embedding + head | rate | tokens | generic | domains "
        "| generic, against dense | domains, against dense |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        own = [each for each in final if each["model"] == name]
        if own:
            sizes = [f"{own[0][f]:,}" for f in ("params", "embedding_and_head")]
            cells = [name, *sizes, f"{own[0]['learning_rate']:g}", f"{own[0]['tokens']:,}"]
            cells += [f"{values(name, sets).mean():.3f}" for sets in (["generic"], domains)]
            if name != DENSE and len(values(DENSE, domains)):
                cells += [change(name, sets) for sets in (["generic"], domains)]
            else:
                cells += ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def rates_of(path: str) -> dict[str, float]:
    """{model: the rate of its final rows}, of a file of rows."""
    rows = read(Path(path))
    return {each["model"]: each["learning_rate"] for each in rows if not each["search"]}


def parsed() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--workdir", default="runs/tiny")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--search_tokens", type=int, default=300_000)
    parser.add_argument("--seeds", type=int, default=3)
    add_names(parser, "--models", MODELS)
    parser.add_argument("--rates", default="", help="rows that have the learning rates")
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    args = parser.parse_args()
    args.rates = rates_of(args.rates) if args.rates else {}
    return args


def main() -> None:
    """Trains all models and writes their rows."""
    args = parsed()
    common = ["data.longest_piece=12", f"train.batch_size={BATCH}"]
    base = config_lib.load(args.config, [f"--config.{x}" for x in (*common, *args.overrides)])
    demo.fetch(base)
    rows: list[dict] = []

    def score(cell: Cell) -> float:
        config = config_of(base, cell)
        run = pipeline.open_run(config, Path(args.workdir), pipeline.domains_of(config))
        rows.append(row(run, cell))
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(args.out), "".join(json.dumps(each) + "\n" for each in rows))
        return float(np.mean(list(rows[-1]["valid_bits_per_byte"].values())))

    started = time.time()
    for done, name in enumerate(args.models, 1):
        rate = args.rates.get(name) or best_rate(
            lambda r, n=name: score(Cell(n, r, 0, args.search_tokens, True))
        )
        for seed in range(args.seeds):
            score(Cell(name, rate, seed, args.tokens, False))
        left = (time.time() - started) / done * (len(args.models) - done)
        print(f"[{done} of {len(args.models)}] about {left / 60:.0f} min left", file=sys.stderr)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
