"""Embeddings of all windows on disk: computed once, chunk by chunk, and found again.

Beside the array lies a JSON file with what it was made of. A run that was killed goes on behind
the last finished chunk; a file made of anything else is removed, never used.

Letters: N windows, D dimensions.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from specialm.clustering.encoders import Encoder
from specialm.files import write_json
from specialm.progress import bar


def embed(read_texts: Callable[[int, int], list[str]], count: int, encoder: Encoder,
          path: str | Path, chunk: int = 4096, key: str = "") -> np.memmap:
    """float32 [N, D], read-only memory map of `path` (.npy): the vector of each window.

    Args:
      read_texts: (start, stop) -> the texts of these windows.
      count: N, at least 1.
      key: identifies the texts, the fingerprint of their store for instance.
    """
    path = Path(path)
    facts = {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "key": key,
             "count": count, "dim": encoder.dim}
    record, partial = path.with_name(path.name + ".json"), path.with_name(path.name + ".partial")
    state = json.loads(record.read_text()) if record.exists() else {}
    done = state.pop("done", 0)
    if state != facts or not (path.exists() or partial.exists()):
        path.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
        done = 0
    if not path.exists():
        _compute(read_texts, encoder, partial, record, facts, done, chunk)
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")


def _compute(read_texts, encoder: Encoder, partial: Path, record: Path, facts: dict, done: int,
             chunk: int) -> None:
    count = facts["count"]
    write_json(record, {**facts, "done": done})  # first: what lies in `partial` is of these facts
    mode = "r+" if done else "w+"
    vectors_NxD = np.lib.format.open_memmap(partial, mode, np.float32, (count, facts["dim"]))
    with bar(count, "embedding", unit="window", initial=done) as b:
        for start in range(done, count, chunk):
            stop = min(start + chunk, count)
            vectors_NxD[start:stop] = encoder.encode(read_texts(start, stop), progress=b.update)
            vectors_NxD.flush()
            write_json(record, {**facts, "done": stop})
