"""Embeddings of all windows on disk: computed once, chunk by chunk, and then reused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from specialm.clustering import resumable
from specialm.clustering.encoders import Encoder

CHUNK = 4096  # windows embedded in one call


def embed(
    read_texts: Callable[[int, int], list[str]],
    count: int,
    encoder: Encoder,
    path: str | Path,
    chunk: int = CHUNK,
    key: str = "",
    rows=None,
) -> np.memmap:
    """Embed windows: float32 [N, D], read-only memory map of `path` (.npy).

    A run that was killed is resumed after the last finished chunk; a file of another encoder or
    other texts is removed, never used.

    Args:
      read_texts: (start, stop) -> the texts of these windows.
      count: N, at least 1.
      encoder: turns texts into vectors.
      path: of the array.
      chunk: windows embedded in one call.
      key: identifies the texts, the fingerprint of their store for instance.
      rows: (start, stop) -> the vectors of a chunk, if they are computed elsewhere.

    """
    facts = {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "key": key,
        "count": count,
        "dim": encoder.dim,
    }
    return resumable.array(
        path,
        facts,
        (count, encoder.dim),
        np.float32,
        lambda start, stop, progress: (
            rows(start, stop)
            if rows
            else encoder.encode(read_texts(start, stop), progress=progress)
        ),
        chunk,
        "embedding",
    )
