"""Tokens per second and time to the first token: ours, transformers, llama.cpp, in turn.

    python -m benchmarks.generate --out=results/generate/rows.jsonl [--open=RUN] [--sizes=0.8M]

Needs the extras runtimes and gguf. Models of 0.8M and 10M parameters have random values (speed does
not depend on them) and a byte-level vocabulary of 2,048; --open adds an imported checkpoint. Every
program runs in a process of its own, on the CPUs of this one, in float32 (llama.cpp in float16
too), greedily, without an end. A round is one run of each program, one after the other; rates are
medians, ratios medians of the rounds' ratios, so that a machine that others slow down slows all.
Where other work takes most of the machine, seconds of the CPU say more than those of the clock: a
program that wakes up for every token waits for its turn every time. With one thread they are what
the clock would show on a quiet machine; what a program does between texts counts too.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from specialm.common import code

CPUS = os.sched_getaffinity(0)  # before JAX is imported, which changes them

PROMPT, BATCHES = 32, (1, 4, 16)
LLAMA = {"norm": "rmsnorm", "positions": "rope", "mlp": "swiglu", "biases": False}
SIZES = {
    "0.8M": {"num_layers": 3, "d_model": 128, "num_heads": 4, "d_ff": 320},
    "10M": {"num_layers": 5, "d_model": 384, "num_heads": 6, "d_ff": 1024},
}
VOCABULARY = 2048


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A program with a model. `mode` is passed on to it."""

    name: str
    program: str
    file: Path
    mode: str = ""


def random_model(folder: Path, sizes: dict) -> Path:
    """A run folder with random parameters."""
    import jax

    from specialm.data import vocabularies
    from specialm.models import transformer
    from specialm.training import runs

    if (folder / "model.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    texts = [path.read_text() for path in sorted(Path("specialm").rglob("*.py"))]
    trained = folder.with_name("vocabulary")
    trained.mkdir(exist_ok=True)
    vocabulary = vocabularies.train(texts, trained, VOCABULARY, "bpe")
    config = transformer.Config(vocab_size=VOCABULARY, context=256, **LLAMA, **sizes)
    runs.save(folder, transformer.init(config, jax.random.key(0)))
    runs.describe(folder, config, vocabulary, "slm", "", 0, [])
    return folder


def files(run: Path, folder: Path) -> list[Runtime]:
    """The programs, with what each reads."""
    from specialm.common.files import write_text
    from specialm.serving import exporting
    from specialm.training import runs as runs_lib
    from specialm.training import sharding

    model = None
    found = [Runtime("specialm", "specialm", run)]
    for name, kind, dtype in (("hf", "hf", "f32"), ("f32", "gguf", "f32"), ("f16", "gguf", "f16")):
        target = folder / name
        if not (target / "written").exists():
            model = model or runs_lib.load(run, sharding.make_mesh())
            target.mkdir(parents=True, exist_ok=True)
            exporting.FORMATS[kind].write(target, exporting._what(model), dtype)
            write_text(target / "written", "")
    found += [
        Runtime(f"transformers, {mode}", "transformers", folder / "hf", mode)
        for mode in ("eager", "static")
    ]
    return found + [
        Runtime(f"llama.cpp, {dtype.upper()}", "llama.cpp", folder / dtype / f"model-{dtype}.gguf")
        for dtype in ("f32", "f16")
    ]


class Process:
    """A program that answers."""

    def __init__(self, program: str, file: Path):
        words = [sys.executable, "-m", "benchmarks.generate_runtimes", program, str(file)]
        self._process = subprocess.Popen(
            words,
            preexec_fn=lambda: os.sched_setaffinity(0, CPUS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} has ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, **asked) -> dict:
        """One run."""
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends it."""
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextlib.contextmanager
def started(runtimes: list[Runtime]) -> Iterator[dict[tuple, Process]]:
    """One process for each program and file."""
    found: dict[tuple, Process] = {}
    try:
        for each in runtimes:
            key = (each.program, each.file)
            found[key] = found.get(key) or Process(*key)
        yield found
    finally:
        for process in found.values():
            process.close()


def measure(
    runtimes: list[Runtime], vocabulary: int, rounds: int, batches: list[int], tokens: int
) -> Iterator[dict]:
    """A row for each batch and program."""
    with started(runtimes) as processes:
        for batch in batches:
            runs: dict[str, list[dict]] = {each.name: [] for each in runtimes}
            for turn in range(-1, rounds):  # the first one warms up
                for each in runtimes:
                    asked = {"batch": batch, "tokens": tokens, "prompt": PROMPT, "mode": each.mode}
                    found = processes[each.program, each.file].ask(
                        **asked, vocabulary=vocabulary, seed=max(turn, 0)
                    )
                    if turn >= 0:
                        runs[each.name].append(found)
            yield from rows(batch, runs, tokens)


def rows(batch: int, runs: dict[str, list[dict]], tokens: int) -> list[dict]:
    """Medians, and ratios to each of the others: above 1 we are faster."""

    def rate(run: dict) -> float:
        return batch * (tokens - 1) / (run["seconds"] - run["first"])

    def cpu_rate(run: dict) -> float:
        return batch * (tokens - 1) / (run["cpu"] - run["first_cpu"])

    def ratio(name: str, of: Callable[[dict], float]) -> float:
        pairs = zip(runs["specialm"], runs[name], strict=True)
        return round(statistics.median(of(own) / of(other) for own, other in pairs), 3)

    return [
        {
            "batch": batch,
            "tokens": tokens,
            "runtime": name,
            "tokens_per_second": round(statistics.median(map(rate, found)), 1),
            "tokens_per_cpu_second": round(statistics.median(map(cpu_rate, found)), 1),
            "first_token_seconds": round(statistics.median(run["first"] for run in found), 5),
            "first_token_cpu_seconds": round(statistics.median(r["first_cpu"] for r in found), 5),
            "specialm_is_faster_by": ratio(name, rate),
            "specialm_is_faster_by_cpu": ratio(name, cpu_rate),
            "memory_bytes": max(run["memory"] for run in found),
            "rounds": len(found),
        }
        for name, found in runs.items()
    ]


def cpu_name() -> str:
    """As the system has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    """Writes a line for each model, batch and program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/generate"))
    parser.add_argument("--open", type=Path, help="a run folder of an imported checkpoint")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from specialm.training import runs as runs_lib

    named = {name: SIZES[name] for name in options.sizes.split(",") if name}
    models = {name: random_model(options.work / name / "run", s) for name, s in named.items()}
    if options.open:
        models["SmolLM2-135M"] = options.open
    machine = {"threads": len(CPUS), "machine": cpu_name()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name, run in models.items():
        vocabulary = runs_lib.read_record(run)["model"]["vocab_size"]
        batches = [int(batch) for batch in options.batches.split(",")]
        programs = files(run, options.work / name)
        found = measure(programs, vocabulary, options.rounds, batches, options.tokens)
        for row in found:
            line = json.dumps({"model": name, **row, **machine, **code.made_by()})
            print(line, flush=True)
            with options.out.open("a") as sink:
                sink.write(line + "\n")


if __name__ == "__main__":
    main()
