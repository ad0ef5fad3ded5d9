"""From a folder of 1 MB of text and a pretrained bank to a fine-tuned model with its perplexity.

    python -m benchmarks.finetune [--repeats=5] [--workdir=DIR] [--tokens=400000] [--domain=legal]

Once, in `--workdir` (a temporary folder by default): pretrains the bank of configs/local/slm_pn.py
for `--tokens` tokens on the default corpora and writes 1 MB of a domain that it never saw as a
folder of text files. Then runs `specialm specialize --checkpoint=BANK --source=folder:PATH` in a
new process each time, with an empty work folder: first with an empty cache of compiled programs,
then `--repeats` times with a filled one. Prints one JSON object: the seconds of the whole process,
its CPU time (which other work on the machine disturbs less), and where the seconds went. Each is
counted once, under the innermost of: imports, reading and tokenising, clusters (embedding and
assigning), projecting, fine-tuning steps, validation, checkpoints, scoring the held-out text,
contamination check, compiling (tracing, and reading what was compiled, included).
"""

import argparse
import builtins
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEGABYTE = 1_000_000
# Function -> the part that its time is counted as.
PARTS = {
    "specialm.workflows.from_checkpoint:prepare_specialist": "reading and tokenising",
    "specialm.clustering.saved_clusters:assign": "clusters",
    "specialm.workflows.experts:_project": "projecting",
    "specialm.specialize.finetune:_fit": "fine-tuning steps",
    "specialm.specialize.finetune:_evaluate": "validation",
    "specialm.training.checkpoints:Checkpoints.__init__": "checkpoints",
    "specialm.training.checkpoints:Checkpoints.save": "checkpoints",
    "specialm.training.checkpoints:Checkpoints.restore": "checkpoints",
    "specialm.training.checkpoints:Checkpoints.__exit__": "checkpoints",
    "specialm.workflows.pipeline:score_heldout": "scoring",
    "specialm.workflows.heldout:check": "contamination check",
}
COMPILING = "/jax/core/compile/"  # tracing, lowering, compiling or reading what was compiled


class Clock:
    """Seconds of each part; of nested parts the innermost one counts."""

    def __init__(self, started: float):
        self.seconds: dict[str, float] = {"start of Python": time.time() - started}
        self._stack, self._last = ["other"], time.perf_counter()

    def _add(self) -> None:
        now = time.perf_counter()
        part = self._stack[-1]
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now

    def enter(self, part: str) -> None:
        self._add()
        self._stack.append(part)

    def leave(self) -> None:
        self._add()
        self._stack.pop()

    def move(self, part: str, seconds: float) -> None:
        """Counts the last seconds of the present part under another one."""
        self._add()
        present = self._stack[-1]
        if present != part:
            seconds = min(seconds, self.seconds.get(present, 0.0))  # other threads compile, too
            self.seconds[present] -= seconds
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def around(self, function, part: str):
        def timed(*args, **kwargs):
            self.enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.leave()

        return timed


def work(file: str, arguments: list[str]) -> None:
    """In the new process: `specialm` with these arguments, timed; writes the parts into `file`."""
    clock = Clock(float(os.environ["BENCHMARK_STARTED"]))
    builtins.__import__ = clock.around(builtins.__import__, "imports")
    from specialm import cli
    from specialm.common import runtime

    runtime.configure()
    for place, part in PARTS.items():
        module, _, name = place.partition(":")
        owner = clock.around(importlib.import_module, "imports")(module)
        *outer, name = name.split(".")
        owner = getattr(owner, outer[0]) if outer else owner
        setattr(owner, name, clock.around(getattr(owner, name), part))
    _count_compiling(clock)
    status = cli.main(arguments)
    clock.enter("end")
    Path(file).write_text(json.dumps(clock.seconds))
    sys.exit(status)


def _count_compiling(clock: Clock) -> None:
    """Events come when they end, and contain others: each second is moved once."""
    import jax

    counted: list[tuple[float, float]] = []  # (begin, seconds) of events that no other contains

    def heard(event: str, seconds: float, **_) -> None:
        if not event.startswith(COMPILING):
            return
        begin, inside = time.perf_counter() - seconds, 0.0
        while counted and counted[-1][0] >= begin:
            inside += counted.pop()[1]
        counted.append((begin, seconds))
        clock.move("compiling", seconds - inside)

    jax.monitoring.register_event_duration_secs_listener(heard)


def prepare(root: Path, tokens: int, domain: str) -> tuple[Path, Path]:
    """(the bank's run folder, the folder of text); what is there already is used."""
    made = json.loads(
        subprocess.run(
            [
                sys.executable,
                "-m",
                "specialm.cli",
                "train",
                "--config=configs/local/slm_pn.py",
                f"--workdir={root / 'bank'}",
                f"--config.train.tokens={tokens}",
                "--json",
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    )
    folder = root / domain
    if not folder.exists():
        folder.mkdir()
        size = 0
        for number, line in enumerate(Path(f"data/corpora/domains/{domain}.jsonl").open()):
            text = json.loads(line)["text"]
            size += len(text.encode())
            if size > MEGABYTE:
                break
            (folder / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    return Path(made["checkpoint"]), folder


def once(bank: Path, folder: Path, cache: Path, extra: list[str]) -> dict:
    """One new process: total seconds, parts, and what came out."""
    with tempfile.TemporaryDirectory() as workdir:
        file = Path(workdir) / "parts.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.finetune",
            f"--worker={file}",
            "--",
            "specialize",
            f"--checkpoint={bank}",
            f"--source=folder:{folder}",
            f"--workdir={workdir}",
            "--json",
            *extra,
        ]
        started, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = os.environ | {
            "BENCHMARK_STARTED": str(started),
            "SPECIALM_PROGRESS": "0",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.time() - started
        if done.returncode:
            raise SystemExit(f"benchmark worker failed:\n{done.stderr}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "seconds": seconds,
            "cpu": cpu,
            "parts": json.loads(file.read_text()),
            "result": json.loads(done.stdout),
        }


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {
        part: round(seconds, 2)
        for part, seconds in sorted(parts.items(), key=lambda item: -item[1])
    }


def measure(bank: Path, folder: Path, repeats: int, extra: list[str]) -> dict:
    """Cold once, then warm; medians of the latter."""
    with tempfile.TemporaryDirectory() as cache:
        cold = once(bank, folder, Path(cache), extra)
        warm = [once(bank, folder, Path(cache), extra) for _ in range(repeats)]
    result = warm[-1]["result"]
    score = result["heldout"]["scores"][folder.name]
    parts = {part for run in warm for part in run["parts"]}
    return {
        "cold_seconds": round(cold["seconds"], 2),
        "cold_cpu_seconds": round(cold["cpu"], 2),
        "cold_parts": _rounded(cold["parts"]),
        "warm_seconds": round(statistics.median(run["seconds"] for run in warm), 2),
        "warm_range": [round(f(run["seconds"] for run in warm), 2) for f in (min, max)],
        "warm_cpu_seconds": round(statistics.median(run["cpu"] for run in warm), 2),
        "warm_parts": _rounded(
            {part: statistics.median(run["parts"].get(part, 0.0) for run in warm) for part in parts}
        ),
        "steps": result["steps"],
        "best_step": result["best_step"],
        "windows": result["sets"][folder.name]["windows"],
        "perplexity": round(score["perplexity"], 3),
        "bits_per_byte": round(score["bits_per_byte"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workdir", default="")
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--domain", default="legal")
    parser.add_argument("--worker", default="")
    parser.add_argument("arguments", nargs="*", help="more options of specialize, after --")
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.arguments)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.workdir or temporary)
        root.mkdir(parents=True, exist_ok=True)
        bank, folder = prepare(root, options.tokens, options.domain)
        print(json.dumps(measure(bank, folder, options.repeats, options.arguments), indent=1))


if __name__ == "__main__":
    main()
