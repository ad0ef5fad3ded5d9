"""Training tokens per second of the dense step against GPT-2 of transformers in PyTorch, on a CPU.

    python -m benchmarks.step [--torch_python=PATH] [--sizes=a,b,c] [--repeats=7] [--no-torch]

Prints one JSON object. For each size both sides start from the same parameters (so their first
losses must agree), train on the same tokens in float32 with all cores, and take turns for
`--repeats` rounds of about a second, each in a process of its own that waits while the other
works. `tokens_per_second` are medians, `ratio` is ours / torch of the medians; at the top level
stands the size with the lowest ratio. Start-up is the time from the start of the process to the
end of the first step, with an empty and with a filled cache of compiled programs.

PyTorch and transformers come with the extra `bench`; `--torch_python` names another interpreter
that has them. `--model=smollm2` is another comparison: see `benchmarks/open_step.py`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import open_step
from benchmarks.worker import Worker

SIZES = {
    "a": {
        "vocab_size": 8000,
        "context": 128,
        "num_layers": 3,
        "d_model": 128,
        "num_heads": 4,
        "d_ff": 512,
        "windows": 32,
    },
    "b": {
        "vocab_size": 4096,
        "context": 256,
        "num_layers": 4,
        "d_model": 256,
        "num_heads": 4,
        "d_ff": 1024,
        "windows": 16,
    },
    "c": {
        "vocab_size": 2048,
        "context": 128,
        "num_layers": 4,
        "d_model": 64,
        "num_heads": 4,
        "d_ff": 256,
        "windows": 64,
    },  # of the demo
}
OPTIMIZER = {
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.98,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
}
SWEEP = (16, 32, 64, 128)  # windows a step, of size c
ROUND_SECONDS = 1.0


def ours(folder: Path, size: dict, devices: int = 0, cores: int = 0, cache: str = "") -> Worker:
    """Our side. devices: how many of XLA's CPU devices (0: as `specialm` chooses); cores: how many
    cores it may use (0: all).
    """
    file = folder / f"size{len(list(folder.iterdir()))}.json"
    file.write_text(
        json.dumps(
            {
                **size,
                **OPTIMIZER,
                "devices": devices,
                "cores": cores,
                "params": str(folder / "params.npz"),
            }
        )
    )
    environment = {"JAX_COMPILATION_CACHE_DIR": cache or str(folder / "cache")}
    return Worker([sys.executable, "-m", "benchmarks.step", f"--worker={file}"], environment)


def torch(folder: Path, size: dict, python: str) -> Worker:
    file = folder / f"size{len(list(folder.iterdir()))}.json"
    file.write_text(json.dumps({**size, **OPTIMIZER}))
    script = Path(__file__).parent / "torch_gpt2.py"
    return Worker([python, str(script), str(file), str(folder / "params.npz")])


def interleave(workers: dict[str, Worker], size: dict, repeats: int) -> dict[str, list[float]]:
    """Tokens per second of each worker in each round; they take turns."""
    tokens = size["windows"] * size["context"]
    steps = {
        name: max(1, round(ROUND_SECONDS / worker.seconds(2) * 2))
        for name, worker in workers.items()
    }
    rates = {name: [] for name in workers}
    for _ in range(repeats):
        for name, worker in workers.items():
            rates[name].append(steps[name] * tokens / worker.seconds(steps[name]))
    for worker in workers.values():
        worker.close()
    return rates


def compare(name: str, python: str | None, repeats: int) -> dict:
    """One size against PyTorch (or alone, when `python` is None)."""
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        cold = ours(folder, size)
        cold.close()
        workers = {"ours": ours(folder, size)}
        result = {
            "size": name,
            **size,
            "startup_seconds": round(cold.startup_seconds, 2),
            "cached_startup_seconds": round(workers["ours"].startup_seconds, 2),
        }
        if python is not None:
            workers["torch"] = torch(folder, size, python)
            answer = workers["torch"].answer
            result |= {
                "torch_startup_seconds": round(workers["torch"].startup_seconds, 2),
                "torch_threads": answer["threads"],
                "torch_version": answer["torch"],
                "transformers_version": answer["transformers"],
                "first_losses": [workers["ours"].answer["loss"], answer["loss"]],
            }
        rates = interleave(workers, size, repeats)
    for side, values in rates.items():
        result[f"{side}_tokens_per_second"] = round(statistics.median(values))
        result[f"{side}_range"] = [round(min(values)), round(max(values))]
    if python is not None:
        result["ratio"] = round(
            statistics.median(rates["ours"]) / statistics.median(rates["torch"]), 3
        )
    return result


def threads(repeats: int) -> dict:
    """Size c on one core, on all cores as one device, and with a device for each core."""
    ways = {
        "one_core": {"devices": 1, "cores": 1},
        "one_device": {"devices": 1},
        "device_per_core": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        workers = {name: ours(Path(folder), SIZES["c"], **way) for name, way in ways.items()}
        rates = interleave(workers, SIZES["c"], repeats)
    return {name: round(statistics.median(values)) for name, values in rates.items()}


def sweep(repeats: int) -> dict:
    """Size c at several numbers of windows a step."""
    rates = {}
    for windows in SWEEP:
        size = {**SIZES["c"], "windows": windows}
        with tempfile.TemporaryDirectory() as folder:
            made = interleave({"ours": ours(Path(folder), size)}, size, repeats)
        rates[str(windows)] = round(statistics.median(made["ours"]))
    return rates


def families(repeats: int) -> dict:
    """Banks and the mixture against the dense step: see `benchmarks/families.py`."""
    command = [sys.executable, "-m", "benchmarks.families", f"--repeats={repeats}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def worker(path: str) -> None:
    """Our side of the race: see `benchmarks/torch_gpt2.py` for the protocol."""
    size = json.loads(Path(path).read_text())
    if size["cores"]:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: size["cores"]])
    if size["devices"]:
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "")
            + f" --xla_force_host_platform_device_count={size['devices']}"
        )
    from specialm.common import runtime

    runtime.configure()
    import jax
    import numpy as np

    from specialm import config as settings
    from specialm.models import transformer
    from specialm.training import optimizer, sharding
    from specialm.training import step as steps

    config = transformer.Config(
        **{
            name: size[name]
            for name in ("vocab_size", "context", "num_layers", "d_model", "num_heads", "d_ff")
        }
    )
    train = settings.default().train
    for name in OPTIMIZER:
        train[name] = size[name]
    tx = optimizer.make(train, 1000, transformer.declare(config))
    mesh = sharding.make_mesh(size["windows"])
    state = steps.init_state(config, tx, mesh, key=jax.random.key(0))
    save(size["params"], state.params)
    train_step = steps.make_train_step(config, tx, mesh)
    rng = np.random.default_rng(0)

    def step():
        nonlocal state
        tokens = rng.integers(0, config.vocab_size, (size["windows"], config.context + 1))
        tokens = tokens.astype(np.int32)
        mask = np.ones((size["windows"], config.context), np.float32)
        batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "mask": mask}
        state, metrics = train_step(state, sharding.put_batch(mesh, batch))
        return metrics["loss"]

    print(json.dumps({"loss": float(step()), "devices": mesh.size}), flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        float(loss)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def save(path: str, params) -> None:
    import jax
    import numpy as np

    np.savez(
        path,
        **{
            jax.tree_util.keystr(where, simple=True, separator="."): np.asarray(value)
            for where, value in jax.tree_util.tree_leaves_with_path(params)
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-torch", action="store_true", help="only our own speed")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="", choices=("", "smollm2"))
    parser.add_argument("--windows", type=int, default=2, help="a step of --model")
    parser.add_argument("--small", action="store_true", help="a tiny one of the shape of --model")
    parser.add_argument("--out", type=Path, help="rows of --model")
    options = parser.parse_args()
    if options.model:
        open_step.main(options)
        return
    if options.worker:
        worker(options.worker)
        return
    python = None if options.no_torch else options.torch_python
    probe = [python, "-c", "import torch, transformers"]
    if python and subprocess.run(probe, stderr=subprocess.DEVNULL).returncode:
        print(
            f"{python} has no torch and transformers (extra `bench`): only our own speed.",
            file=sys.stderr,
        )
        python = None
    results = [compare(name, python, options.repeats) for name in options.sizes.split(",")]
    made = {
        "cores": len(os.sched_getaffinity(0)),
        "sizes": results,
        "threads": threads(options.repeats),
        "windows_per_step": sweep(options.repeats),
    }
    made |= {
        "families": (banks := families(options.repeats))["families"],
        "family_sizes": banks["sizes"],
    }
    if python is not None:
        lowest = min(results, key=lambda result: result["ratio"])
        made |= {
            key: lowest[key]
            for key in ("ours_tokens_per_second", "torch_tokens_per_second", "ratio")
        }
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
