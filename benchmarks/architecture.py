"""Which parts the local models are built of: bits per byte at equal parameters and equal time.

    python -m benchmarks.architecture --out=results/architecture/rows.jsonl

Every architecture gets the width of its MLP that makes its parameters equal to GPT-2's, and as many
tokens as it can read in the time that GPT-2's takes for the budget (steps timed in turn, medians).
Each is pretrained on the default generic corpus with several learning rates for the first seed; the
rate of the lowest macro average goes on with the other seeds. Scores are of the specialist domains'
validation windows, before fine-tuning: a choice is never made on held-out text. Finished runs are
reused, so the same command goes on after an interruption; it rewrites --out.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

from specialm.common import code, runtime

runtime.configure()

import numpy as np  # noqa: E402

from benchmarks.turns import Training, timed  # noqa: E402
from specialm import config as config_lib  # noqa: E402
from specialm import methods  # noqa: E402
from specialm.common.files import write_text  # noqa: E402
from specialm.models import transformer  # noqa: E402
from specialm.training import runs, scoring, step  # noqa: E402
from specialm.workflows import demo, pipeline, pretraining  # noqa: E402

ROPE = {"positions": "rope"}
LEAN = {"norm": "rmsnorm", "biases": False}
LLAMA = {**ROPE, **LEAN, "mlp": "swiglu"}
ARCHITECTURES: dict[str, dict] = {
    "gpt2": {},
    "gpt2, rope": ROPE,
    "gpt2, rmsnorm, no biases": LEAN,
    "gpt2, swiglu": {"mlp": "swiglu"},
    "llama": LLAMA,
    "llama, qk-norm": {**LLAMA, "qk_norm": True},
    "llama, 2 of 4 kv heads": {**LLAMA, "num_kv_heads": 2},
}
RATES = (2e-3, 4e-3, 8e-3)


def with_parts(base, parts: dict, vocabulary_size: int):
    """The config with these parts, d_ff set so that it has the parameters of the base."""
    wanted = transformer.num_params(methods.dense_config(base, vocabulary_size))

    def sized(d_ff: int):
        changed = config_lib.default()
        changed.update(base.to_dict())
        changed.model.update({**parts, "d_ff": d_ff})
        size = transformer.num_params(methods.dense_config(changed, vocabulary_size))
        return abs(size - wanted), changed

    return min((sized(d_ff) for d_ff in range(64, 512, 8)), key=lambda pair: pair[0])[1].lock()


def step_seconds(configs: dict, vocabulary_size: int, rounds: int = 7, steps: int = 8) -> dict:
    """{architecture: seconds of a step}, medians of rounds in which each takes its turn."""
    sides = {}
    for name, config in configs.items():
        model = methods.dense_config(config, vocabulary_size)
        tokens = np.random.default_rng(0).integers(
            0, vocabulary_size, (config.train.batch_size, model.context), dtype=np.int32
        )
        batch = {"inputs": tokens, "targets": tokens, "mask": np.ones(tokens.shape, np.float32)}
        sides[name] = Training(model, config.train, [batch]).steps
    return {name: statistics.median(all_) for name, all_ in timed(sides, rounds, steps).items()}


def score(run: pipeline.Run, path: Path) -> dict[str, float]:
    """{domain: bits per byte of its validation windows}."""
    model = runs.load(path, run.mesh)
    score_step = step.make_score_step(model.config, run.mesh)
    found = {}
    for domain in run.domains:
        part = pipeline.specialist(run, domain)
        found[domain] = scoring.score(
            score_step, model.params, part.valid_store, part.valid_indices, 64, run.mesh
        ).bits_per_byte
    return found


def main() -> None:
    """Runs the grid and writes its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--workdir", default="runs/architecture")
    parser.add_argument("--config", default="configs/local/slm.py")
    parser.add_argument("--tokens", type=int, default=4_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    base = config_lib.load(args.config, [f"--config.train.tokens={args.tokens}"])
    demo.fetch(base)
    first = pipeline.open_run(base, Path(args.workdir), pipeline.domains_of(base))
    vocabulary = first.prepared.vocabulary.size
    configs = {name: with_parts(base, parts, vocabulary) for name, parts in ARCHITECTURES.items()}
    timing = Path(args.workdir) / "step_seconds.json"
    if not timing.exists():  # one measurement for all sessions: stages depend on it
        write_text(timing, json.dumps(step_seconds(configs, vocabulary)))
    seconds, rows = json.loads(timing.read_text()), []

    def cell(name: str, rate: float, seed: int) -> float:
        config = config_lib.default()
        config.update(configs[name].to_dict())
        config.train.learning_rate = rate
        config.train.tokens = round(args.tokens * seconds["gpt2"] / seconds[name])
        run = dataclasses.replace(first, config=config.lock())
        stage = pretraining.pretrain(run, methods.BASE, "", seed)
        bits = score(run, stage.path)
        model = run.model_config(methods.BASE)
        rows.append(
            {
                "architecture": name,
                "learning_rate": rate,
                "seed": seed,
                "params": transformer.num_params(model),
                "d_ff": model.d_ff,
                "step_ms": round(1e3 * seconds[name], 2),
                "tokens": config.train.tokens,
                "valid_bits_per_byte": {d: round(b, 5) for d, b in bits.items()},
                "macro_bits_per_byte": round(float(np.mean(list(bits.values()))), 5),
                **code.made_by([stage]),
            }
        )
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(args.out), "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}, rate {rate:g}, seed {seed}: {rows[-1]['macro_bits_per_byte']}", flush=True)
        return rows[-1]["macro_bits_per_byte"]

    started, done = time.time(), 0
    for name in configs:
        best = min(RATES, key=lambda rate, name=name: cell(name, rate, 0))
        for seed in range(1, args.seeds):
            cell(name, best, seed)
        done += 1
        left = (time.time() - started) / done * (len(configs) - done)
        print(f"[{done} of {len(configs)}] about {left / 60:.0f} min left", file=sys.stderr)


if __name__ == "__main__":
    main()
