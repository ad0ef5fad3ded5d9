"""An array on disk that is computed once, chunk by chunk, and then reused.

Next to the array is a JSON file with all that it depends on. A run that was killed is resumed after
the last finished chunk, whose rows must be what they were; a file with other dependencies is
removed, never used.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash

from specialm.common import disk
from specialm.common.errors import UserError
from specialm.common.files import read_sealed, write_sealed
from specialm.common.progress import bar


def array(
    path: str | Path,
    facts: dict,
    shape: tuple[int, ...],
    dtype: type,
    compute: Callable[[int, int, Callable[[int], None]], np.ndarray],
    chunk: int,
    title: str,
) -> np.memmap:
    """Compute an array into `path` (.npy), or find it there; return its read-only memory map.

    Args:
      path: of the array.
      facts: all that the array depends on, as JSON has it.
      shape: of the array.
      dtype: of its values.
      compute: (start, stop, progress) -> these rows; it calls `progress` with the rows done.
      chunk: rows computed at a time.
      title: of the progress bar.

    """
    path = Path(path)
    record, partial = path.with_name(path.name + ".json"), path.with_name(path.name + ".partial")
    state = read_sealed(record) if record.exists() else {}
    done, digests = state.pop("done", 0), state.pop("digests", None)
    if state != facts or not (path.exists() or partial.exists()):
        path.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        done, digests = 0, None
    if not path.exists():
        # First, as `partial` depends on these facts.
        write_sealed(record, {**facts, "done": done, "digests": digests or []})
        rows = np.lib.format.open_memmap(partial, "r+" if done else "w+", dtype, shape)
        disk.reserve(partial)
        _check(partial, rows, digests or [])
        digests = list(digests or [])
        with bar(len(rows), title, unit="window", initial=done) as b:
            for start in range(done, len(rows), chunk):
                stop = min(start + chunk, len(rows))
                rows[start:stop] = compute(start, stop, b.update)
                rows.flush()
                digests.append([stop, _digest(rows[start:stop])])
                write_sealed(record, {**facts, "done": stop, "digests": digests})
        os.replace(partial, path)
    elif digests is not None:  # of a stage that was killed before it ended
        _check(path, np.load(path, mmap_mode="r"), digests)
    return np.load(path, mmap_mode="r")


def _digest(rows: np.ndarray) -> str:
    return xxhash.xxh3_128_hexdigest(np.ascontiguousarray(rows).data)


def _check(path: Path, rows: np.ndarray, digests: list) -> None:
    """Raise UserError if the chunks that were finished are not what they were."""
    start = 0
    for stop, expected in digests:
        if _digest(rows[start:stop]) != expected:
            raise UserError(
                f"{path}: is damaged: its rows {start:,} to {stop:,} are not those that were "
                "written; remove it: the same command computes it again."
            )
        start = stop
