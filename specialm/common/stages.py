"""Stages: a piece of work with a name, what it depends on, and a folder of its own.

The folder's name has a hash of everything the result depends on, so a finished stage is reused, a
changed setting gets a new folder next to the old one, and nothing is ever overwritten. A stage is
finished when its `stage.json` exists, written when all its files are on the disk and in a manifest
(`manifest.py`); one that was killed starts with the files that it left. Who works in a folder locks
it (`locks.py`).

With several processes the folders are on a file system that all of them share. Process 0 writes and
decides what is finished, so that no two have different answers; it does the work, or all do.
"""

import hashlib
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specialm.common import code, locks, manifest, processes
from specialm.common.errors import UserError
from specialm.common.files import flush, read_sealed, write_json, write_sealed


@dataclass(frozen=True)
class Stage:
    """A finished stage."""

    name: str
    path: Path
    result: dict  # that its work returned
    seconds: float  # of all runs if the work counts them, else of the last
    reused: bool
    fingerprint: str
    code: str = ""  # digest of the code that ran it (`code.py`); "" if that was not recorded


class Stages:
    """The stages below one work folder, in the order in which they were run."""

    def __init__(self, root: Path, quiet: bool = False):
        self.root = Path(root)
        self.quiet = quiet
        self.done: list[Stage] = []

    def path(self, name: str, inputs: dict) -> Path:
        """Return the folder of the stage of this name and inputs.

        Raises:
          UserError: the name leads out of the work folder.

        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{name!r}: a name must not lead out of the work folder {self.root}.")
        return self.root / f"{name}-{fingerprint(inputs)[:10]}"

    def find(self, name: str, inputs: dict) -> Stage | None:
        """Return the finished stage of this name and inputs, or None; process 0 decides for all."""
        path = processes.run_on_first(
            f"finding {name}", lambda: self._finished(self.path(name, inputs))
        )
        return self._read(path, True) if path else None

    def run(
        self, name: str, inputs: dict, work: Callable[[Path], dict], on_all: bool = False
    ) -> Stage:
        """Return the finished stage; run `work(folder)` if it is not finished.

        Args:
          name: also the folder's path below the root.
          inputs: everything that the result depends on, as JSON has it.
          work: (folder) -> the result, as JSON has it.
          on_all: with several processes, whether all of them do the work; else process 0 does,
            on its own devices. `work` must let only process 0 write.

        """
        run = self._run_on_all if on_all else self._run_on_first
        stage = self.find(name, inputs) if on_all else None
        stage = stage or run(name, inputs, work)
        reported = any(stage.path == earlier.path for earlier in self.done)
        self.done.append(stage)
        if processes.is_first() and not (self.quiet or reported):
            how = "reused" if stage.reused else f"{stage.seconds:.1f} s"
            print(f"  {name}: {how}", file=sys.stderr, flush=True)
        return stage

    def _finished(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if (path / manifest.STAGE).exists() else ""

    def _read(self, path: str, reused: bool) -> Stage:
        """Read a finished stage; all its files are there.

        Its path comes from process 0: the times of files, which some inputs hold, may differ on
        another host.
        """
        saved = read_stage(self.root / path)
        if reused:
            manifest.check_sizes(self.root / path)
        return Stage(
            saved["name"],
            self.root / path,
            saved["result"],
            saved["seconds"],
            reused,
            fingerprint(saved["inputs"]),
            str(saved.get("code", "")),
        )

    def _run_on_first(self, name: str, inputs: dict, work) -> Stage:
        def find_or_run():
            path = self.path(name, inputs)
            if self._finished(path):
                return [self._finished(path), True]
            path.mkdir(parents=True, exist_ok=True)
            with locks.alone_in(path):
                reused = bool(self._finished(path))  # by whom we waited for
                if not reused:
                    self._begin(path, inputs)
                    started = time.perf_counter()
                    self._end(path, name, inputs, work(path), started)
            return [self._finished(path), reused]

        return self._read(*processes.run_on_first(f"stage {name}", find_or_run))

    def _run_on_all(self, name: str, inputs: dict, work) -> Stage:
        with ExitStack() as held:

            def begin():
                path = self.path(name, inputs)
                path.mkdir(parents=True, exist_ok=True)
                held.enter_context(locks.alone_in(path))
                if self._finished(path):
                    return [self._finished(path), True]
                self._begin(path, inputs)
                return [str(path.relative_to(self.root)), False]

            path, reused = processes.run_on_first(f"beginning {name}", begin)
            if not reused:
                started = time.perf_counter()
                result = processes.run_on_all(f"stage {name}", lambda: work(self.root / path))[0]
                processes.run_on_first(
                    f"ending {name}",
                    lambda: self._end(self.root / path, name, inputs, result, started),
                )
        return self._read(path, reused)

    def _begin(self, path: Path, inputs: dict) -> None:
        (path / manifest.NAME).unlink(missing_ok=True)  # killed between it and `stage.json`
        for left in sorted(path.rglob("*.tmp")):  # in inner folders too, as of the clusters
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)  # it was in a folder that is gone
        write_json(path / "inputs.json", inputs)

    def _end(self, path: Path, name: str, inputs: dict, result: dict, started: float) -> None:
        seconds = max(result.get("seconds", 0.0), time.perf_counter() - started)
        manifest.write(path)
        write_sealed(
            path / manifest.STAGE,
            {
                "name": name,
                "inputs": inputs,
                "result": result,
                "seconds": seconds,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "verified": True,
                "code": code.digest(),
            },
        )
        flush(path)


def read_stage(path: Path) -> dict:
    """Return what `stage.json` of a finished stage says.

    Raises:
      UserError: it is damaged.

    """
    saved = read_sealed(path / manifest.STAGE)
    missing = [key for key in ("name", "inputs", "result", "seconds") if key not in saved]
    if missing:
        raise UserError(
            f"{path / manifest.STAGE}: is damaged: {', '.join(missing)} missing; remove {path}: "
            "the same command computes it again."
        )
    return saved


def fingerprint(inputs: dict | list) -> str:
    """Return the sha256 of the inputs as canonical JSON."""
    content = json.dumps(inputs, sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()


def digest(array: np.ndarray) -> str:
    """Return a short hash of an array's content, for a stage's inputs."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
