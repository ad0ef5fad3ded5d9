"""An array on disk that is computed once, chunk by chunk, and then reused.

Next to the array is a JSON file with all that it depends on. A run that was killed is resumed after
the last finished chunk; a file with other dependencies is removed, never used.
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
    state = json.loads(record.read_text()) if record.exists() else {}
    done = state.pop("done", 0)
    if state != facts or not (path.exists() or partial.exists()):
        path.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        done = 0
    if not path.exists():
        write_json(record, {**facts, "done": done})  # first, as `partial` depends on these facts
        rows = np.lib.format.open_memmap(partial, "r+" if done else "w+", dtype, shape)
        with bar(len(rows), title, unit="window", initial=done) as b:
            for start in range(done, len(rows), chunk):
                stop = min(start + chunk, len(rows))
                rows[start:stop] = compute(start, stop, b.update)
                rows.flush()
                write_json(record, {**facts, "done": stop})
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")
