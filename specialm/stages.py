"""Stages: a piece of work with a name, what it depends on, and a folder of its own.

The folder's name holds a hash of everything the result depends on, so a finished stage is found
again, a changed setting gets a new folder beside the old one, and nothing is ever overwritten. A
stage is finished when its `stage.json` is there; one that was killed finds what it left.
"""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specialm.files import write_json


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    path: Path
    result: dict  # what its work returned
    seconds: float  # over all its sessions as far as the work counts them, else of the last
    reused: bool
    fingerprint: str


class Stages:
    """The stages below one work folder, in the order in which they were asked for."""

    def __init__(self, root: Path, quiet: bool = False):
        self.root = Path(root)
        self.quiet = quiet
        self.done: list[Stage] = []

    def path(self, name: str, inputs: dict) -> Path:
        return self.root / f"{name}-{fingerprint(inputs)[:10]}"

    def find(self, name: str, inputs: dict) -> Stage | None:
        """The finished stage of this name and inputs, or None."""
        path = self.path(name, inputs)
        record = path / "stage.json"
        if not record.exists():
            return None
        saved = json.loads(record.read_text())
        return Stage(name, path, saved["result"], saved["seconds"], True, fingerprint(inputs))

    def run(self, name: str, inputs: dict, work: Callable[[Path], dict]) -> Stage:
        """The stage's result: found, or made by `work(folder)`, which returns a JSON-able dict.

        Args:
          name: also the folder's path below the root.
          inputs: JSON-able; everything that the result depends on.
        """
        stage = self.find(name, inputs) or self._make(name, inputs, work)
        told = any(stage.path == earlier.path for earlier in self.done)
        self.done.append(stage)
        if not (self.quiet or told):
            how = "reused" if stage.reused else f"{stage.seconds:.1f} s"
            print(f"  {name}: {how}", file=sys.stderr, flush=True)
        return stage

    def _make(self, name: str, inputs: dict, work) -> Stage:
        path = self.path(name, inputs)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "inputs.json", inputs)
        started = time.perf_counter()
        result = work(path)
        seconds = max(result.get("seconds", 0.0), time.perf_counter() - started)
        write_json(path / "stage.json", {
            "name": name, "inputs": inputs, "result": result, "seconds": seconds,
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
        return Stage(name, path, result, seconds, False, fingerprint(inputs))


def fingerprint(inputs: dict) -> str:
    """sha256 of the inputs as canonical JSON."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def digest(array: np.ndarray) -> str:
    """A short hash of an array's content, for a stage's inputs."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
