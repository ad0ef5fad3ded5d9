"""The window store: random access to windows of tokens on disk, in plain .npy files.

A store is a folder of shards and an `index.json`. Each shard holds its windows' tokens end to end
with offsets, so nothing is padded on disk and any window is read without reading another; NumPy's
memory maps give that with no dependency at training time. Sidecars (a cluster for each window)
are next to it.

A file is verified when a window of it is first read: against the manifest of its folder (see
`common/manifest.py`), and against what the index says of its shard.
"""

import collections
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.files import (
    read_json,
    read_sealed,
    save_array,
    to_json,
    write_json,
    write_sealed,
    write_text,
)
from specialm.data.store_checks import COLUMNS, TOTALS, index_problem
from specialm.data.windows import DocumentWindows

VERSION = 1


class StoreWriter:
    """Writes a store shard by shard; after a kill it resumes after the last finished shard.

    Args:
      path: the store's folder.
      settings: all that determines the content.
      shard_tokens: a shard is written when it has as many.

    Raises:
      UserError: the folder has a finished store, or one begun with other settings.

    """

    def __init__(self, path: Path, settings: dict, shard_tokens: int):
        self.path = Path(path)
        self.settings = {"version": VERSION, **settings}
        self.shard_tokens = shard_tokens
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / "index.json").exists():
            raise UserError(
                f"{path}: holds a finished window store; remove the folder or choose another."
            )
        progress = self.path / "progress.json"
        state = read_sealed(progress) if progress.exists() else None
        if state and state["settings"] != self.settings:
            raise UserError(
                f"{path}: a store with other settings was begun here; remove the "
                "folder or choose another."
            )
        self.shards = state["shards"] if state else []
        for number, shard in enumerate(self.shards):
            _check_shard(self.path, number, shard)
        self._clear()

    @property
    def documents(self) -> int:
        """Documents already in finished shards: what a restarted writer has to skip."""
        return sum(shard["documents"] for shard in self.shards)

    def write(
        self,
        documents: Iterable[DocumentWindows],
        counts: collections.Counter,
        on_document=lambda document: None,
    ) -> None:
        """Add all documents and finish the store.

        Args:
          documents: in order, without those that `self.documents` counts.
          counts: of what was read and skipped, for the index.
          on_document: called with each document, for a progress bar.

        """
        for document in documents:
            self._pending.append(document)
            self._tokens += len(document.tokens)
            on_document(document)
            if self._tokens >= self.shard_tokens:
                self._flush()
        if self._pending:
            self._flush()
        finish(self.path, self.settings, self.shards, counts)

    def _clear(self) -> None:
        self._pending: list[DocumentWindows] = []
        self._tokens = 0

    def _flush(self) -> None:
        self.shards.append(
            write_shard(self.path, len(self.shards), self._pending, first=self.documents)
        )
        write_sealed(
            self.path / "progress.json", {"settings": self.settings, "shards": self.shards}
        )
        self._clear()


def write_shard(path: Path, number: int, documents: list[DocumentWindows], first: int) -> dict:
    """Write the files of one shard into a store's folder; return its record for `finish`.

    Args:
      path: the store's folder.
      number: of the shard.
      documents: of the shard.
      first: documents in the shards before it.

    """
    columns, names = _columns(documents, first)
    prefix = path / f"{number:05d}"
    digest = hashlib.sha256()
    for name in COLUMNS:
        save_array(prefix.with_suffix(f".{name}.npy"), columns[name])
        digest.update(np.ascontiguousarray(columns[name]).tobytes())
    write_text(prefix.with_suffix(".documents.json"), to_json(names))
    return {
        "windows": len(columns["bytes"]),
        "documents": len(documents),
        "tokens": len(columns["tokens"]),
        "bytes": int(columns["bytes"].sum()),
        "sha256": digest.hexdigest(),
    }


def finish(path: Path, settings: dict, shards: list[dict], counts: collections.Counter) -> None:
    """Write the index of a store whose shards are written; `shards` are their records."""
    settings = {"version": VERSION, **settings}
    total = {key: sum(shard[key] for shard in shards) for key in TOTALS}
    content = json.dumps([settings, [shard["sha256"] for shard in shards]], sort_keys=True)
    write_json(
        path / "index.json",
        {
            **settings,
            **total,
            "counts": dict(sorted(counts.items())),
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
            "shards": shards,
        },
    )
    (path / "progress.json").unlink(missing_ok=True)


def _columns(documents: list[DocumentWindows], first: int) -> tuple[dict, list]:
    tokens = np.concatenate([d.tokens for d in documents])
    sizes = np.concatenate([np.diff(d.ends_N, prepend=0) for d in documents])
    numbers = np.repeat(np.arange(len(documents)), [len(d.ends_N) for d in documents]) + first
    columns = {
        "tokens": tokens.astype(np.uint16 if tokens.max() < 1 << 16 else np.uint32),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "bytes": np.concatenate([d.bytes_N for d in documents]).astype(np.uint32),
        "document": numbers.astype(np.uint32),
    }
    return columns, [[d.id, d.key] for d in documents]


def _concatenate(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)


def _check_shard(path: Path, number: int, shard: dict) -> None:
    """Raise UserError if the arrays of a shard are not those that its record is of."""
    digest = hashlib.sha256()
    for name in COLUMNS:
        digest.update(np.ascontiguousarray(_load(path, number, name)).tobytes())
    names = read_json(path / f"{number:05d}.documents.json")
    if digest.hexdigest() != shard["sha256"] or len(names) != shard["documents"]:
        raise _damaged(
            path, f"shard {number:05d} holds other windows than those that were written to it"
        )


def _load(path: Path, number: int, name: str) -> np.ndarray:
    """Return the memory map of a column of a shard."""
    return manifest.load_array(path / f"{number:05d}.{name}.npy", mmap=True)


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path}: this window store is damaged: {problem}. Restore it from a copy, or remove the "
        "folder: `specialm prepare` writes it again."
    )


class WindowStore:
    """Reads a finished store.

    Args:
      path: the store's folder.
      vocabulary_sha256: of the vocabulary that the caller uses; checked if given.
      vocabulary_size: of the same; ids must be below it.

    Raises:
      UserError: no finished store at `path`, it was written with another vocabulary, or is damaged;
        the latter from every method too.

    """

    def __init__(
        self,
        path: str | Path,
        vocabulary_sha256: str | None = None,
        vocabulary_size: int | None = None,
    ):
        self.path, self.vocabulary_size = Path(path), vocabulary_size
        if not (self.path / "index.json").exists():
            raise UserError(
                f"{path}: no finished window store in this folder; run `specialm prepare`."
            )
        manifest.check(self.path / "index.json")
        self.index = read_json(self.path / "index.json")
        problem = index_problem(self.index)
        if problem:
            raise _damaged(self.path, f"index.json {problem}")
        store_sha256 = self.index["vocabulary_sha256"]
        if vocabulary_sha256 not in (None, store_sha256):
            raise UserError(
                f"{path}: this store was written with vocabulary {store_sha256[:12]}, not "
                f"with {vocabulary_sha256[:12]}; run `specialm prepare` again."
            )
        ends = np.cumsum([shard["windows"] for shard in self.index["shards"]], dtype=np.int64)
        self._starts = np.concatenate([[0], ends])
        self._columns: dict[tuple[int, str], np.ndarray] = {}

    def __len__(self) -> int:
        return self.index["windows"]

    def __reduce__(self):
        return WindowStore, (
            self.path,
            None,
            self.vocabulary_size,
        )  # other processes open it themselves

    @property
    def context(self) -> int:
        """L, tokens of a window at most."""
        return self.index["context"]

    @property
    def start(self) -> int:
        """The token that stands before every window."""
        return self.index.get("start", 0)

    @property
    def fingerprint(self) -> str:
        """A hash of the settings and of the content."""
        return self.index["fingerprint"]

    def _column(self, number: int, name: str) -> np.ndarray:
        """Return a column of a shard, verified when it is first asked for."""
        key = (number, name)
        if key not in self._columns:
            column, record = _load(self.path, number, name), self.index["shards"][number]
            problem = COLUMNS[name](column, record, self.vocabulary_size)
            if problem:
                raise _damaged(self.path, f"{number:05d}.{name}.npy: {problem}")
            self._columns[key] = column
        return self._columns[key]

    def _all(self, name: str) -> list[np.ndarray]:
        return [self._column(number, name) for number in range(len(self.index["shards"]))]

    def _names(self, number: int) -> list:
        """Return [id, hash of the text] of each document of a shard."""
        file = self.path / f"{number:05d}.documents.json"
        manifest.check(file)
        names, expected = read_json(file), self.index["shards"][number]["documents"]
        if not isinstance(names, list) or len(names) != expected:
            raise _damaged(self.path, f"{file.name} does not name {expected} documents")
        return names

    @cached_property
    def documents(self) -> list[tuple[str, int]]:
        """(id, hash of the text) of every document, in store order."""
        return [
            (name, key)
            for number in range(len(self.index["shards"]))
            for name, key in self._names(number)
        ]

    @cached_property
    def sizes_N(self) -> np.ndarray:
        """int32: tokens of each window."""
        return _concatenate([np.diff(o) for o in self._all("offsets")], np.int32)

    @cached_property
    def bytes_N(self) -> np.ndarray:
        """int64: UTF-8 bytes of text of each window."""
        return _concatenate(self._all("bytes"), np.int64)

    @cached_property
    def document_N(self) -> np.ndarray:
        """int64: index into `documents` of each window."""
        return _concatenate(self._all("document"), np.int64)

    def cut(self, start: int, stop: int) -> Iterator[DocumentWindows]:
        """Yield the documents start ... stop - 1 as they were written."""
        first = 0
        for number, record in enumerate(self.index["shards"]):
            last = first + record["documents"]
            if max(start, first) < min(stop, last):
                yield from self._cut(number, first, max(start, first), min(stop, last))
            first = last

    def _cut(self, number: int, first: int, start: int, stop: int) -> Iterator[DocumentWindows]:
        """Yield the documents start ... stop - 1, of a shard whose first one is `first`."""
        names, all_offsets = self._names(number), self._column(number, "offsets")
        wanted = np.arange(start, stop + 1, dtype=np.uint32)
        edges = np.searchsorted(self._column(number, "document"), wanted)
        for document, low, high in zip(wanted, edges, edges[1:], strict=False):
            offsets = all_offsets[low : high + 1]
            name, key = names[document - first]
            yield DocumentWindows(
                name,
                key,
                self._column(number, "tokens")[offsets[0] : offsets[-1]],
                offsets[1:] - offsets[0],
                self._column(number, "bytes")[low:high].astype(np.int64),
            )

    def read(self, indices_B: np.ndarray) -> np.ndarray:
        """Return int32 [B, L]: the windows of these indices, 0 (pad) after their ends.

        Raises:
          IndexError: an index outside [0, N).

        """
        indices_B = np.asarray(indices_B, np.int64)
        if indices_B.size and not 0 <= indices_B.min() <= indices_B.max() < len(self):
            raise IndexError(f"{self.path}: window index outside [0, {len(self)})")
        tokens_BxL = np.zeros((len(indices_B), self.context), np.int32)
        shard_B = np.searchsorted(self._starts, indices_B, side="right") - 1
        for number in np.unique(shard_B):
            rows = np.flatnonzero(shard_B == number)
            tokens, offsets = self._column(number, "tokens"), self._column(number, "offsets")
            local = indices_B[rows] - self._starts[number]
            start, stop = offsets[local], offsets[local + 1]
            position = start[:, None] + np.arange(self.context)
            inside = position < stop[:, None]
            values = tokens[np.minimum(position, len(tokens) - 1)]
            tokens_BxL[rows] = np.where(inside, values, 0)
        return tokens_BxL

    def batch(self, indices_B: np.ndarray) -> dict[str, np.ndarray]:
        """Return inputs (targets shifted right, `start` first), targets and float32 mask, each
        [B, L].

        Every token of a window is predicted, its first one from `start` only.
        """
        tokens_BxL = self.read(indices_B)
        inputs_BxL = np.full_like(tokens_BxL, self.start)
        inputs_BxL[:, 1:] = tokens_BxL[:, :-1]
        mask_BxL = np.arange(self.context) < self.sizes_N[indices_B][:, None]
        return {"inputs": inputs_BxL, "targets": tokens_BxL, "mask": mask_BxL.astype(np.float32)}

    def subset(self, tokens: int) -> np.ndarray:
        """Return indices of the windows of whole documents, until `tokens` are reached; 0 for all.

        Their order depends only on their text; larger subsets contain smaller ones.
        """
        order = np.argsort(np.array([key for _, key in self.documents], np.uint64), kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        indices = np.argsort(rank[self.document_N], kind="stable")
        if not tokens:
            return indices
        per_document = np.bincount(self.document_N, self.sizes_N, len(order))[order]
        last = np.searchsorted(np.cumsum(per_document), tokens)
        return indices[rank[self.document_N[indices]] <= last]
