"""Tiny models: bits per byte at equal training FLOPs of dense vocabulary, bytes, shared weights.

    python -m benchmarks.tiny --out=results/tiny/rows.jsonl

Every model is about as large as the dense one of configs/local/slm.py and is pretrained on the
default generic corpus, on as many tokens as it can read with the FLOPs that the dense one takes for
--tokens. Scores are of the generic held-out windows and of the specialist domains' validation
windows, before fine-tuning. All have the learning rate of the dense model: none is tuned. Finished
runs are reused, so the same command goes on after an interruption; it rewrites --out.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from specialm.common import runtime

runtime.configure()

import numpy as np  # noqa: E402

from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.training import runs, scoring, step  # noqa: E402
from specialm.workflows import demo, pipeline, pretraining  # noqa: E402

DENSE = "dense vocabulary"
BYTES = {"embedder": "bytes", "byte_size": 16, "byte_heads": 2, "d_ff": 416}
DEEP = {"num_layers": 4}  # with the parameters of two layers, or little more
MODELS: dict[str, dict] = {
    DENSE: {},
    "byte-pooled, at once": {**BYTES, "head": "bytes"},
    "byte-pooled, in turn": {**BYTES, "head": "bytes_in_turn"},
    "plain bytes": {"d_ff": 480},
    "shared MLP": {**DEEP, "share": ("mlp:all",)},
    "shared MLP, low rank": {**DEEP, "share": ("mlp:all+low_rank",), "share_rank": 4},
    "loop of two blocks": {**DEEP, "share": ("block:cycle-2",)},
}
# Windows of about as many bytes, cut by a vocabulary of its own.
VOCABULARIES = {"plain bytes": {"vocabulary_kind": "bytes", "vocabulary_size": 259, "context": 256}}


def configs(base) -> dict:
    """{model: its config}, with the tokens that equal FLOPs give."""

    def flops(config) -> int:
        model = methods.dense_config(config, config.data.vocabulary_size)
        return transformer.flops_per_token(model, train=True)

    found = {}
    for name, parts in MODELS.items():
        config = config_lib.default()
        config.update(base.to_dict())
        config.model.update(parts)
        config.data.update(VOCABULARIES.get(name, {}))
        config.train.batch_size = base.train.batch_size * base.data.context // config.data.context
        config.train.tokens = round(base.train.tokens * flops(base) / flops(config))
        found[name] = config.lock()
    return found


def scores(run: pipeline.Run, path: Path) -> dict[str, float]:
    """Bits per byte of the generic held-out windows and of each domain's validation windows."""
    model = runs.load(path, run.mesh)
    score_step = step.make_score_step(model.config, run.mesh)
    domains = {name: pipeline.specialist(run, name) for name in run.domains}
    sets = {"generic": (run.generic_heldout, np.arange(min(len(run.generic_heldout), 1000)))}
    sets |= {name: (part.valid_store, part.valid_indices) for name, part in domains.items()}
    return {
        name: scoring.score(score_step, model.params, *windows, 64, run.mesh).bits_per_byte
        for name, windows in sets.items()
    }


def row(run: pipeline.Run, name: str, seed: int) -> dict:
    """Trains a model, or reads the one that was trained; its figures."""
    stage = pretraining.pretrain(run, methods.BASE, "", seed)
    model = run.model_config(methods.BASE)
    found = scores(run, stage.path)
    generic = found.pop("generic")
    ends = ("embed", "heads")
    parts = transformer.params_by_part(model)
    return {
        "model": name,
        "seed": seed,
        "params": transformer.num_params(model),
        "embedding_and_head": sum(parts.get(part, 0) for part in ends),
        "train_flops_per_token": transformer.flops_per_token(model, train=True),
        "tokens": run.config.train.tokens,
        "seconds": round(stage.result["seconds"], 1),
        "generic_bits_per_byte": round(generic, 5),
        "valid_bits_per_byte": {domain: round(bits, 5) for domain, bits in found.items()},
        "macro_bits_per_byte": round(float(np.mean(list(found.values()))), 5),
    }


def table(rows: list[dict]) -> str:
    """The rows as Markdown, means over seeds."""
    lines = [
        "| model | parameters | embedding + head | tokens | generic | macro |",
        "|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        own = [each for each in rows if each["model"] == name]
        if own:
            means = [
                np.mean([each[f"{what}_bits_per_byte"] for each in own])
                for what in ("generic", "macro")
            ]
            sizes = [f"{own[0][f]:,}" for f in ("params", "embedding_and_head", "tokens")]
            lines.append(f"| {' | '.join([name, *sizes, *(f'{mean:.3f}' for mean in means)])} |")
    return "\n".join(lines)


def main() -> None:
    """Trains all models and writes their rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--workdir", default="runs/tiny")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="FIELD=VALUE of every config")
    args = parser.parse_args()
    common = [f"train.tokens={args.tokens}", "data.longest_piece=12", "train.batch_size=32"]
    overrides = [f"--config.{each}" for each in (*common, *args.overrides)]
    base, rows = config_lib.load(args.config, overrides), []
    demo.fetch(base)
    started, cells = time.time(), [(m, s) for s in range(args.seeds) for m in MODELS]
    by_name = configs(base)
    for done, (name, seed) in enumerate(cells, 1):
        config = by_name[name]
        run = pipeline.open_run(config, Path(args.workdir), pipeline.domains_of(config))
        rows.append(row(run, name, seed))
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(args.out), "".join(json.dumps(each) + "\n" for each in rows))
        left = (time.time() - started) / done * (len(cells) - done)
        print(f"[{done} of {len(cells)}] about {left / 60:.0f} min left", file=sys.stderr)
    print(table(rows))


if __name__ == "__main__":
    main()
