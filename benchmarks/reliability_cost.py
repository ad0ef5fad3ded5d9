"""What verified files, honest checkpoints and the rest of docs/reliability.md cost of a whole job.

    python -m benchmarks.reliability_cost [--workdir=DIR] -- demo --config=local/demo [OVERRIDES]

Runs a command of `specialm` in this process with a clock around every function that is there for
reliability alone, and prints one JSON object: seconds of the whole, and of each, with nested ones
counted once, under the innermost; then their share of the whole. Wall time and the process's
processor time (all threads): other work on the machine slows both sides of a share alike.
"""

import argparse
import functools
import importlib
import json
import resource
import sys
import tempfile
import time

PARTS = {
    "specialm.common.manifest:write": "manifests",
    "specialm.common.manifest:check": "verifying",
    "specialm.common.manifest:check_file": "verifying",
    "specialm.common.manifest:check_sizes": "verifying",
    "specialm.common.files:flush": "waiting for the disk",
    "specialm.common.disk:reserve": "waiting for the disk",
    "specialm.training.checkpoints:Checkpoints.read_back": "reading back",
    "specialm.training.checkpoints:Checkpoints._verify": "verifying",
    "specialm.training.divergence:Watch.see": "divergence",
    "specialm.training.votes:Votes.number": "signals",
}


class Clock:
    """[wall, processor] seconds of each part of the main thread."""

    def __init__(self):
        self.parts: dict[str, list[float]] = {}
        self._inside: list[list[float]] = []

    def around(self, function, part: str):
        """The function, timed; what timed functions take inside of it is theirs."""

        @functools.wraps(function)
        def timed(*args, **kwargs):
            before = [time.perf_counter(), time.process_time()]
            self._inside.append([0.0, 0.0])
            try:
                return function(*args, **kwargs)
            finally:
                taken = [time.perf_counter() - before[0], time.process_time() - before[1]]
                inside = self._inside.pop()
                own = self.parts.setdefault(part, [0.0, 0.0])
                for i in range(2):
                    own[i] += taken[i] - inside[i]
                    if self._inside:
                        self._inside[-1][i] += taken[i]

        return timed


def install(clock: Clock) -> None:
    """Puts the clock around the functions, under every name that the package has for them."""
    for place, part in PARTS.items():
        module, _, name = place.partition(":")
        owner = importlib.import_module(module)
        *outer, name = name.split(".")
        owner = getattr(owner, outer[0]) if outer else owner
        original = getattr(owner, name)
        timed = clock.around(original, part)
        setattr(owner, name, timed)
        for each in list(sys.modules.values()):
            if getattr(each, "__name__", "").startswith("specialm"):
                for held, value in list(vars(each).items()):
                    if value is original:
                        setattr(each, held, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="", help="empty for a temporary folder")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    started, cpu = time.perf_counter(), time.process_time()
    from specialm import cli

    for module in ("commands", "workflows.demo", "workflows.experts", "workflows.pretraining"):
        importlib.import_module(f"specialm.{module}")
    clock = Clock()
    install(clock)
    with tempfile.TemporaryDirectory() as temporary:
        workdir = options.workdir or temporary
        status = cli.main([*options.command, f"--workdir={workdir}"])
    whole = [time.perf_counter() - started, time.process_time() - cpu]
    found = {part: [round(value, 3) for value in both] for part, both in clock.parts.items()}
    shares = [sum(both[i] for both in clock.parts.values()) / whole[i] for i in range(2)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps(
            {
                "command": " ".join(options.command),
                "status": status,
                "seconds": [round(value, 1) for value in whole],
                "parts": found,
                "share": [round(value, 4) for value in shares],
                "peak_memory_bytes": peak,
            }
        )
    )
    sys.exit(status)


if __name__ == "__main__":
    main()
