"""Metrics of a run: one JSON line a record, and what else shows them (`trackers.py`)."""

import json
import os
from pathlib import Path
from typing import BinaryIO

import xxhash
from ml_collections import ConfigDict

from specialm.common import disk, manifest, processes
from specialm.common.errors import UserError
from specialm.common.files import to_json, write_bytes
from specialm.training import trackers


class MetricsWriter:
    """Appends whole lines to `metrics.jsonl`.

    After a resume the file is cut to what it was when the checkpoint was saved. Of several
    processes the first alone writes; the others' records go nowhere.

    Args:
      path: the run folder.
      train: the settings of pretraining, which say what trackers there are.
      settings: all settings of the run, for the trackers.
      resumed_step: the step that the run goes on from; records after it are dropped.
      saved: what `state()` returned when the checkpoint was saved; None in one of an earlier
        version.

    Raises:
      UserError: the file is not what it was when the checkpoint was saved, or a tracker does not
        start.

    """

    def __init__(
        self,
        path: Path,
        train: ConfigDict,
        settings: dict,
        resumed_step: int = 0,
        saved: list | None = None,
    ):
        self._stream: BinaryIO | None = None
        self._trackers: list[trackers.Tracker] = []
        self._size, self._hasher = 0, xxhash.xxh3_128()
        processes.run_on_first(
            "starting the trackers", lambda: self._open(path, train, settings, resumed_step, saved)
        )

    def _open(self, path: Path, train, settings: dict, resumed_step: int, saved) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._trackers = trackers.start(path, train, settings, resumed_step)
        self._file = path / "metrics.jsonl"
        kept = _lines_until(self._file, resumed_step) if saved is None else self._cut(*saved)
        write_bytes(self._file, kept)
        self._count(kept)
        self._stream = self._file.open("ab", buffering=0)

    def _cut(self, size: int, digest: str) -> bytes:
        content = self._file.read_bytes() if self._file.exists() else b""
        if size and not content:
            processes.tell(
                f"{self._file}: is gone; the run goes on, its records start at the resumed step."
            )
            return b""
        kept = content[:size]
        if len(kept) < size or xxhash.xxh3_128_hexdigest(kept) != digest:
            raise UserError(
                f"{self._file}: is damaged: its first {size:,} bytes are not those that were there "
                "when the checkpoint was saved; restore it from a copy, or remove it to go on "
                "without its earlier records."
            )
        return kept

    def _count(self, content: bytes) -> None:
        self._size += len(content)
        self._hasher.update(content)

    def state(self) -> list:
        """[bytes, digest] of what is written so far, flushed to the disk; for the checkpoint."""
        if self._stream is not None:
            os.fsync(self._stream.fileno())
        return [self._size, self._hasher.hexdigest()]

    def write(self, step: int, values: dict) -> None:
        """Appends a record."""
        if self._stream is None:
            return
        line = (to_json({"step": step, **values}) + "\n").encode()
        with disk.writing(self._file):
            self._stream.write(line)
        self._count(line)
        numbers = {name: value for name, value in values.items() if isinstance(value, float | int)}
        for tracker in self._trackers:
            tracker.write(step, numbers)

    def close(self) -> None:
        """Closes the files."""
        if self._stream:
            self._stream.close()
        for tracker in self._trackers:
            tracker.close()


def _lines_until(path: Path, step: int) -> bytes:
    lines = [line for line in read(path) if line["step"] <= step] if path.exists() else []
    return "".join(to_json(line) + "\n" for line in lines).encode()


def read(path: Path) -> list[dict]:
    """The records of a metrics file; a last line cut off by a kill is left out.

    Raises:
      UserError: the file is of a finished run and damaged.
    """
    manifest.check(Path(path))
    records = []
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
