"""Metrics of a run: one JSON line a record, and TensorBoard files beside it."""

import json
from pathlib import Path

from specialm.common import processes


class MetricsWriter:
    """Appends to `metrics.jsonl`; after a resume, records after the resumed step are dropped.

    Of several processes the first alone writes; the others' records go nowhere.
    """

    def __init__(self, path: Path, tensorboard: bool, resumed_step: int = 0):
        self._stream = self._board = None
        if not processes.is_first():
            return
        path.mkdir(parents=True, exist_ok=True)
        self._file = path / "metrics.jsonl"
        if self._file.exists():
            valid = [line for line in read(self._file) if line["step"] <= resumed_step]
            self._file.write_text("".join(json.dumps(line) + "\n" for line in valid))
        self._stream = self._file.open("a")
        self._board = _board(path, resumed_step) if tensorboard else None

    def write(self, step: int, values: dict) -> None:
        """Appends a record."""
        if self._stream is None:
            return
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()
        if self._board:
            for name, value in values.items():
                if isinstance(value, float | int):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        if self._stream:
            self._stream.close()
        if self._board:
            self._board.close()


def _board(path: Path, resumed_step: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:  # accelerator images without it still train; the JSONL has everything
        return None
    return SummaryWriter(str(path / "tensorboard"), purge_step=resumed_step or None)


def read(path: Path) -> list[dict]:
    """The records of a metrics file; a last line cut off by a kill is left out."""
    records = []
    for line in Path(path).read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
