"""A fine-tuning step of SmolLM2-135M against transformers in PyTorch, on a CPU.

    python -m benchmarks.step --model=smollm2 --out=results/open_model/step.jsonl

Windows of 512 tokens, AdamW, all parameters; ours, PyTorch, and PyTorch through `torch.compile`
(where there is a C++ compiler), each in float32 and with matrix products in bfloat16 (autocast in
PyTorch, `model.dtype=bfloat16` here; parameters and moments stay float32). All sides start from one
random model of that shape, so their first losses must agree. They take turns, a step each round, in
processes of their own; figures are medians, `ratio` is PyTorch's seconds / ours, `peak_bytes` the
process's largest resident memory.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.worker import Worker

SHAPE = {  # of SmolLM2-135M
    "vocab_size": 49_152,
    "context": 512,
    "num_layers": 30,
    "d_model": 576,
    "num_heads": 9,
    "num_kv_heads": 3,
    "d_ff": 1536,
    "norm": "rmsnorm",
    "positions": "rope",
    "rope_base": 100_000.0,
    "mlp": "swiglu",
    "biases": False,
    "head": "tied",
}
SMALL = {**SHAPE, "vocab_size": 512, "context": 64, "num_layers": 2, "d_model": 48, "d_ff": 64}
SMALL |= {"num_heads": 6}
OPTIMIZER = {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.98, "weight_decay": 0.1}
CLIP = 1.0
DTYPES = ("float32", "bfloat16")


def answer_steps(step: Callable[[], float], about: dict) -> None:
    """The worker's part: one step at once, then as many as each line of standard input says."""
    print(json.dumps({"loss": step(), **about}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


def ours(folder: Path, shape: dict, windows: int, dtype: str) -> None:
    """Our side. The first process writes the model to `folder` in transformers' layout."""
    from specialm.common import runtime

    runtime.configure()
    import jax
    import jax.numpy as jnp
    import numpy as np
    from safetensors.flax import save_file

    from benchmarks.families import random_batch
    from specialm import config as settings
    from specialm.models import transformer
    from specialm.serving import architectures
    from specialm.training import optimizer, sharding, step

    config = transformer.Config(**shape, dtype=dtype)
    train = settings.default().train
    train.update({**OPTIMIZER, "clip_norm": CLIP, "schedule": "constant", "warmup_steps": 0})
    tx = optimizer.make(train, 1000, transformer.declare(config))
    mesh = sharding.make_mesh(windows, params=transformer.num_params(config))
    state = step.init_state(config, tx, mesh, key=jax.random.key(0))
    if not (folder / "config.json").exists():
        llama = architectures.get("llama", "")
        params = jax.device_get(state.params)
        views = llama.views(params, config)
        tensors = {view.name: jnp.asarray(view.read(), jnp.float32) for view in views}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        about = {"architectures": [llama.model_class], "model_type": "llama"}
        about |= llama.write(config, config.context)
        (folder / "config.json").write_text(json.dumps(about))
    train_step = step.make_train_step(config, tx, mesh)
    batch = sharding.put_batch(mesh, random_batch(config, windows, 1))
    (folder / "optimizer.json").write_text(json.dumps({**OPTIMIZER, "clip_norm": CLIP}))
    np.savez(folder / "batch.npz", **{name: np.asarray(value) for name, value in batch.items()})

    def one() -> float:
        nonlocal state
        state, metrics = train_step(state, batch)
        return float(metrics["loss"])

    answer_steps(one, {"jax": jax.__version__})


def compared(options: argparse.Namespace) -> list[dict]:
    """A row for each side and dtype."""
    shape, rows = SMALL if options.small else SHAPE, []
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as folder:
            common = [json.dumps(shape), str(options.windows), dtype, folder]
            sides = {"ours": Worker([sys.executable, "-m", "benchmarks.open_step", *common])}
            script = str(Path(__file__).with_name("torch_llama.py"))
            ways = ("eager", "compiled") if shutil.which("g++") else ("eager",)
            for way in () if options.no_torch else ways:
                sides[f"torch, {way}"] = Worker([options.torch_python, script, *common[2:], way])
            for side in (*sides.values(), *sides.values()):
                side.ask(1)  # to warm up
            rounds = [
                {name: side.ask(1) for name, side in sides.items()} for _ in range(options.repeats)
            ]
            for name, side in sides.items():
                side.close()
                seconds = [each[name]["seconds"] for each in rounds]
                ratios = [each[name]["seconds"] / each["ours"]["seconds"] for each in rounds]
                rows.append(
                    {
                        "side": name,
                        "dtype": dtype,
                        "windows": options.windows,
                        "context": shape["context"],
                        "cores": len(os.sched_getaffinity(0)),
                        "seconds": round(statistics.median(seconds), 3),
                        "range": [round(min(seconds), 3), round(max(seconds), 3)],
                        "ratio": round(statistics.median(ratios), 3),
                        "first_seconds": round(side.startup_seconds, 1),
                        "peak_bytes": rounds[-1][name]["peak_bytes"],
                        **side.answer,
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    return rows


def main(options: argparse.Namespace) -> None:
    """Compares and writes the rows."""
    from specialm.common import code

    rows = [row | code.made_by() for row in compared(options)]
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    given, count, kind, where = sys.argv[1:]
    ours(Path(where), json.loads(given), int(count), kind)
