"""Metrics of a run: one JSON line a record, and what else shows them (`trackers.py`)."""

import json
from pathlib import Path
from typing import TextIO

from ml_collections import ConfigDict

from specialm.common import processes
from specialm.training import trackers


class MetricsWriter:
    """Appends to `metrics.jsonl`; after a resume, records after the resumed step are dropped.

    Of several processes the first alone writes; the others' records go nowhere.

    Args:
      path: the run folder.
      train: the settings of pretraining, which say what trackers there are.
      settings: all settings of the run, for the trackers.
      resumed_step: the step that the run goes on from.

    Raises:
      UserError: a tracker does not start.
    """

    def __init__(self, path: Path, train: ConfigDict, settings: dict, resumed_step: int = 0):
        self._stream: TextIO | None = None
        self._trackers: list[trackers.Tracker] = []
        processes.run_on_first(
            "starting the trackers", lambda: self._open(path, train, settings, resumed_step)
        )

    def _open(self, path: Path, train: ConfigDict, settings: dict, resumed_step: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._trackers = trackers.start(path, train, settings, resumed_step)
        file = path / "metrics.jsonl"
        if file.exists():
            valid = [line for line in read(file) if line["step"] <= resumed_step]
            file.write_text("".join(json.dumps(line) + "\n" for line in valid))
        self._stream = file.open("a")

    def write(self, step: int, values: dict) -> None:
        """Appends a record."""
        if self._stream is None:
            return
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()
        numbers = {name: value for name, value in values.items() if isinstance(value, float | int)}
        for tracker in self._trackers:
            tracker.write(step, numbers)

    def close(self) -> None:
        """Closes the files."""
        if self._stream:
            self._stream.close()
        for tracker in self._trackers:
            tracker.close()


def read(path: Path) -> list[dict]:
    """The records of a metrics file; a last line cut off by a kill is left out."""
    records = []
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
