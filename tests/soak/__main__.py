"""python -m soak --seconds=600 [--seed=0] [--only=kills,...] [--jobs=study,...]: tries by turns until
the time is up, and prints the counts. Exit status 1 if anything went wrong; each failure is printed.

--rows=FILE also appends a JSON line for each turn; --sum=FILE only adds up what is there.
--short tries a fixed few on one job: the test suite's."""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["SPECIALM_PROGRESS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
QUICK = (  # as in tests/conftest.py
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=2 {QUICK}")

from soak import children, flips, project, runs  # noqa: E402

BITS = {"checkpoints": 25, "stores and sidecars": 25, "JSON": 5}  # of one turn
JOBS = [job.name for job in project.JOBS]
KINDS = ("kills", "signals", "pairs", "damaged_steps", "bits", "files", "full_disk")
SHORT = {"kills": 2, "signals": 1, "pairs": 1, "damaged_steps": 1, "bits": 1, "files": 1}


class Soak:
    """The trials of all jobs in one temporary folder."""

    def __init__(self, root: Path, given: argparse.Namespace, until: float):
        self.root, self.until, self.seed, self.short = root, until, given.seed, given.short
        self.rows, self.jobs = given.rows, given.jobs.split(",") if given.jobs else JOBS
        project.write(root)
        templates: dict = {}
        self.trials = {job.name: runs.Trial(root, job, templates) for job in project.JOBS}
        self.counts, self.failures, self.turns = Counter(), [], Counter()

    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until

    def turn(self, kind: str, name: str = "") -> None:
        """One try of a kind, on one job or on the next."""
        self.turns[kind] += 1
        number = self.turns[kind]
        draw = random.Random(f"{self.seed} {kind} {number}")
        started, before = time.monotonic(), len(self.failures)
        counts: dict[str, int] = {}
        try:
            damage = kind in ("bits", "files")
            counts = self._damage(kind, draw) if damage else self._run(kind, number, draw, name)
        except AssertionError as error:
            self.failures.append(f"{kind} {number}: {error}")
            print(self.failures[-1], flush=True)
        took = round(time.monotonic() - started)
        print(f"{kind} {number}: {dict(counts)} ({took} s)", flush=True)
        self.counts.update(counts)
        if self.rows:
            row = {"seed": self.seed, "turn": f"{kind} {number}", "seconds": took, "counts": counts}
            row["failures"] = [failure[:300] for failure in self.failures[before:]]
            with self.rows.open("a") as out:
                out.write(json.dumps(row) + "\n")

    def _run(self, kind: str, number: int, draw: random.Random, name: str) -> dict[str, int]:
        trials = [self.trials[each] for each in ([name] if name else self.jobs)]
        if kind == "damaged_steps":
            trials = [trial for trial in trials if trial.job.command[0] == "train"]
        trial = trials[number % len(trials)]
        few = {"most": 1} if self.short and kind == "kills" else {}
        counts = getattr(runs, kind)(trial, draw, **few)
        return {f"{kind} {trial.job.name}: {k}": v for k, v in counts.items()}

    def _damage(self, kind: str, draw: random.Random) -> dict[str, int]:
        name = "slm_is" if self.short else ("slm_is", "slm_pn")[self.turns[kind] % 2]
        trial = self.trials[f"train {name}"]
        assert trial.whole
        out = trial.folder / "counts.json"

        def tries(workdir: Path):
            if kind == "bits":
                many = {name: -(-n // 5) if self.short else n for name, n in BITS.items()}
                return flips.flips(workdir, draw, many)
            return flips.whole_files(workdir, draw, 0.04 if self.short else 1.0)

        def work() -> int:
            config = self.root / "config.py"
            return flips.main(config, trial.folder / "whole", name, tries, out, self.over)

        end = children.Child(trial.folder / "flips.log", work).end()
        assert end.status == 0, end.said[-3000:]
        counts = Counter(json.loads(out.read_text()))
        wrong = [f"{k}: {v}" for k, v in counts.items() if k.startswith("  ")]
        self.failures += wrong
        print("\n".join(wrong), end="\n" if wrong else "", flush=True)
        return {k: v for k, v in counts.items() if not k.startswith("  ")}


def total(rows: Path) -> list[str]:
    """The sums of the rows of any number of runs."""
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    counts = sum((Counter(row["counts"]) for row in found), Counter())
    hours = sum(row["seconds"] for row in found) / 3600
    lines = [f"{len(found)} turns, {hours:.1f} h, seeds {sorted({row['seed'] for row in found})}"]
    lines += [f"  {name}: {count:,}" for name, count in sorted(counts.items())]
    return [*lines, f"{sum(len(row['failures']) for row in found)} failures"]


def main() -> int:
    """Parse, try, print."""
    parser = argparse.ArgumentParser(prog="python -m soak")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help="some of: " + ", ".join(KINDS))
    parser.add_argument("--jobs", default="", help="some of: " + ", ".join(JOBS))
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--sum", type=Path)
    given = parser.parse_args()
    if given.sum:
        print("\n".join(total(given.sum)))
        return 0
    children.preload()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="specialm-soak-") as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        soak = Soak(Path(folder), given, started + given.seconds)
        if given.short:
            for kind, turns in SHORT.items():
                for _ in range(turns):
                    soak.turn(kind, "train slm_is")
        while not (given.short or soak.over()):
            for kind in given.only.split(","):
                if not soak.over():
                    soak.turn(kind)
    print(f"seed {given.seed}, {time.monotonic() - started:.0f} s")
    for name, count in sorted(soak.counts.items()):
        print(f"  {name}: {count:,}")
    print(f"{len(soak.failures)} failures")
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
