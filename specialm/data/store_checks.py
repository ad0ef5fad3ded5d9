"""What must hold in the files of a window store, so that nothing else is ever read from one."""

from typing import Any

import numpy as np

TOTALS = ("windows", "documents", "tokens", "bytes")


def _tokens_problem(tokens: np.ndarray, shard: dict, vocabulary_size: int | None) -> str:
    if tokens.shape != (shard["tokens"],) or tokens.dtype not in (np.uint16, np.uint32):
        return f"{tokens.dtype} {tokens.shape} is not {shard['tokens']} ids"
    largest = int(tokens.max(initial=0)) if vocabulary_size else -1
    return (
        f"id {largest} is not below {vocabulary_size}" if largest >= (vocabulary_size or 0) else ""
    )


def _offsets_problem(offsets: np.ndarray, shard: dict, _) -> str:
    if offsets.shape != (shard["windows"] + 1,) or offsets.dtype != np.int64:
        return f"{offsets.dtype} {offsets.shape} is not one more than {shard['windows']} windows"
    rising = offsets[0] == 0 and offsets[-1] == shard["tokens"] and np.all(np.diff(offsets) > 0)
    return "" if rising else f"does not rise from 0 to {shard['tokens']}"


def _per_window(column: np.ndarray, shard: dict, _) -> str:
    right = column.shape == (shard["windows"],) and column.dtype == np.uint32
    return "" if right else f"{column.dtype} {column.shape} is not {shard['windows']} numbers"


def _document_problem(document: np.ndarray, shard: dict, _) -> str:
    problem = _per_window(document, shard, _)
    if problem:
        return problem
    steps = np.diff(document.astype(np.int64))
    right = np.all((steps == 0) | (steps == 1)) and steps.sum() + 1 == shard["documents"]
    return "" if right else "documents are not in their order"


# Column -> (it, its shard's record, the vocabulary's size or None) -> what is wrong with it, or ""
COLUMNS = {
    "tokens": _tokens_problem,
    "offsets": _offsets_problem,
    "bytes": _per_window,
    "document": _document_problem,
}


def index_problem(index: Any) -> str:
    """What is wrong with an index, or ""."""
    if not isinstance(index, dict):
        return "is no JSON object"
    for key in ("vocabulary_sha256", "context", "fingerprint", "shards", *TOTALS, "counts"):
        if key not in index:
            return f"has no {key!r}"
    parts = (*TOTALS, "sha256")
    if not isinstance(index["shards"], list) or not all(
        isinstance(shard, dict) and all(part in shard for part in parts)
        for shard in index["shards"]
    ):
        return f"has shards without {', '.join(parts)}"
    for key in TOTALS:
        if index[key] != sum(shard[key] for shard in index["shards"]):
            return f"says {index[key]} {key}, its shards have another sum"
    return ""
