"""An array on disk that is computed once, chunk by chunk, and found again.

Beside the array lies a JSON file with what it was made of. A run that was killed goes on behind
the last finished chunk; a file made of anything else is removed, never used.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from specialm.common.files import write_json
from specialm.common.progress import bar


def array(
    path: str | Path,
    facts: dict,
    shape: tuple[int, ...],
    dtype: type,
    make: Callable[[int, int, Callable[[int], None]], np.ndarray],
    chunk: int,
    title: str,
) -> np.memmap:
    """Read-only memory map of `path` (.npy).

    Args:
      facts: JSON-able; all that the array depends on.
      make: (start, stop, progress) -> these rows; it calls `progress` with the rows done.
      chunk: rows made at a time.
      title: of the progress bar.

    """
    path = Path(path)
    record, partial = path.with_name(path.name + ".json"), path.with_name(path.name + ".partial")
    state = json.loads(record.read_text()) if record.exists() else {}
    done = state.pop("done", 0)
    if state != facts or not (path.exists() or partial.exists()):
        path.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        done = 0
    if not path.exists():
        write_json(record, {**facts, "done": done})  # first: `partial` is made of these facts
        rows = np.lib.format.open_memmap(partial, "r+" if done else "w+", dtype, shape)
        with bar(len(rows), title, unit="window", initial=done) as b:
            for start in range(done, len(rows), chunk):
                stop = min(start + chunk, len(rows))
                rows[start:stop] = make(start, stop, b.update)
                rows.flush()
                write_json(record, {**facts, "done": stop})
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")
