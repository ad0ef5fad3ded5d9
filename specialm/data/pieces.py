"""Preparation in pieces that can be written anywhere, in any order and more than once.

A piece is a folder that is written under a temporary name and renamed when it is complete: what
killed workers leave is ignored, and of two workers at the same piece one wins. The result is byte
for byte that of one process: the parts of a source (groups of its files) are cut into windows
independently, then the shards are planned from the documents' sizes, then each shard is assembled
from the parts that it overlaps.
"""

import collections
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.files import remove_folder, save_array, write_json
from specialm.common.stages import fingerprint
from specialm.data.documents import Source
from specialm.data.readers import LocalReader, Scan, merge_scans, scan_files
from specialm.data.store import StoreWriter, WindowStore, finish, write_shard
from specialm.data.vocabularies import Vocabulary
from specialm.data.windows import Split, windows

PART_BYTES = 1 << 26  # of the files, as they are on disk, that are one piece

WritePiece = Callable[[Path, Any], collections.Counter]  # (empty folder, item) -> counts
WritePieces = Callable[[str, Path, Sequence, WritePiece], object]  # (title, folder, items, write)


def piece_path(folder: Path, number: int) -> Path:
    """Return the folder of a piece."""
    return folder / f"{number:05d}"


def _folder(path: Path, kind: str, items: list) -> Path:
    """Return the folder of a stage's pieces; other items (another `part_bytes`) have another."""
    return path / "pieces" / f"{kind}-{fingerprint(items)[:10]}"


def write_once(target: Path, write: WritePiece, item) -> collections.Counter:
    """Let `write` fill the folder `target`, unless it exists; return what it counted."""
    if target.exists():
        return collections.Counter({"pieces reused": 1})
    attempt = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    attempt.mkdir(parents=True)
    counts = write(attempt, item)
    try:
        attempt.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(attempt)  # another worker was faster with the same piece
    return counts + collections.Counter({"pieces written": 1})


def write_locally(title: str, folder: Path, items: Sequence, write: WritePiece) -> None:
    """Write all pieces in this process: the simplest `WritePieces`."""
    for number, item in enumerate(items):
        write_once(piece_path(folder, number), write, item)


def group_files(source: Source, part_bytes: int) -> list[tuple[Path, ...]]:
    """Group a source's files, in order, into parts of at least `part_bytes` each but the last.

    A file is never divided; a source without files has no part.
    """
    groups: list[tuple[Path, ...]] = []
    group: list[Path] = []
    size = 0
    for path in source.files:
        group.append(path)
        size += path.stat().st_size
        if size >= part_bytes:
            groups.append(tuple(group))
            group, size = [], 0
    return [*groups, tuple(group)] if group else groups


@dataclass(frozen=True)
class InPieces(LocalReader):
    """How `prepare` works when `write_pieces` distributes the work.

    A source of one part only, or one without files, is read in this process.
    """

    write_pieces: WritePieces
    part_bytes: int = PART_BYTES

    def scan(self, path: Path, name: str, source: Source) -> Scan:
        """Count and hash the parts of a source."""
        parts = self._parts(source)
        if len(parts) < 2:
            return super().scan(path, name, source)
        folder = _folder(path, "scan", [list(map(str, files)) for files in parts])
        self.write_pieces(f"scan {name}", folder, parts, partial(scan_part, source))
        scans = [
            Scan(**json.loads((piece_path(folder, i) / "scan.json").read_text()))
            for i in range(len(parts))
        ]
        remove_folder(path / "pieces")
        return merge_scans(scans)

    def write(
        self,
        path: Path,
        name: str,
        settings: dict,
        source: Source,
        vocabulary: Vocabulary,
        split: Split,
        shard_tokens: int,
        size: int,
    ) -> None:
        """Write the window store of a split."""
        parts = self._parts(source)
        if len(parts) < 2:
            super().write(path, name, settings, source, vocabulary, split, shard_tokens, size)
            return
        cut = _folder(path, "parts", [[list(map(str, files)) for files in parts], shard_tokens])
        self.write_pieces(
            f"windows {name}",
            cut,
            parts,
            partial(cut_part, source, settings, vocabulary, split, shard_tokens),
        )
        stores = [piece_path(cut, i) for i in range(len(parts))]
        planned = plan_shards((_document_tokens(store) for store in stores), shard_tokens)
        shards = _folder(path, "shards", [cut.name, planned])
        self.write_pieces(f"shards {name}", shards, planned, partial(assemble, cut))
        records = [_move(piece_path(shards, i), path) for i in range(len(planned))]
        finish(path, settings, records, _counts(stores))
        remove_folder(path / "pieces")

    def _parts(self, source: Source) -> list[tuple[Path, ...]]:
        return group_files(source, self.part_bytes) if source.read else []

    def rows(
        self,
        title: str,
        folder: Path,
        count: int,
        chunk: int,
        compute: Callable[[int, int], np.ndarray],
    ) -> Callable[[int, int], np.ndarray]:
        """Compute `count` rows of an array in pieces of `chunk` rows.

        Args:
          title: of the work, for messages.
          folder: for the pieces; the caller removes it in the end.
          count: rows.
          chunk: rows of a piece.
          compute: (start, stop) -> these rows.

        Returns:
          The function (start, stop) -> the rows of a piece, read from the folder.

        """
        starts = range(0, count, chunk)
        self.write_pieces(
            title,
            folder,
            [(start, min(start + chunk, count)) for start in starts],
            partial(write_rows, compute),
        )
        return lambda start, stop: np.load(piece_path(folder, start // chunk) / "rows.npy")


def scan_part(source: Source, folder: Path, files: tuple[Path, ...]) -> collections.Counter:
    """Count and hash these files of a source."""
    scan = scan_files(source, files)
    write_json(folder / "scan.json", vars(scan))
    return collections.Counter(scan.counts)


def cut_part(
    source: Source,
    settings: dict,
    vocabulary: Vocabulary,
    split: Split,
    shard_tokens: int,
    folder: Path,
    files: tuple[Path, ...],
) -> collections.Counter:
    """Cut these files of a source into a window store of their own."""
    assert source.read is not None
    counts: collections.Counter = collections.Counter()
    part = Source(source.name, partial(source.read, files), files, source.read)
    StoreWriter(folder, settings, shard_tokens).write(
        windows(part, vocabulary, settings["context"], split, settings["split"], counts), counts
    )
    index = WindowStore(folder).index
    return counts + collections.Counter({key: index[key] for key in ("windows", "tokens")})


def _document_tokens(path: Path) -> np.ndarray:
    """Return int64 [d]: the tokens of each document of a store."""
    store = WindowStore(path)
    tokens = np.bincount(store.document_N, store.sizes_N, store.index["documents"])
    return tokens.astype(np.int64)


def _counts(stores: list[Path]) -> collections.Counter:
    counts: collections.Counter = collections.Counter()
    for path in stores:
        counts.update(WindowStore(path).index["counts"])
    return counts


def plan_shards(tokens_of_parts: Iterable[np.ndarray], shard_tokens: int) -> list[tuple]:
    """Return the shards that one writer would fill with all documents in turn.

    Args:
      tokens_of_parts: int64 [d] of each part: the tokens of its documents.
      shard_tokens: a shard is full when it has as many.

    Returns:
      (number, documents before it, [(part, first document, last document + 1), ...]) of each.

    """
    shards: list[list[tuple[int, int, int]]] = []
    pending: list[tuple[int, int, int]] = []
    size = 0
    for part, tokens_d in enumerate(tokens_of_parts):
        ends_d, start, done = np.cumsum(tokens_d), 0, 0
        while start < len(ends_d):
            stop = int(np.searchsorted(ends_d, done + shard_tokens - size)) + 1
            if stop > len(ends_d):  # the part ends before the shard is full
                pending.append((part, start, len(ends_d)))
                size += int(ends_d[-1]) - done
                break
            shards.append([*pending, (part, start, stop)])
            pending, size, start, done = [], 0, stop, int(ends_d[stop - 1])
    shards += [pending] if pending else []
    documents = [sum(stop - start for _, start, stop in ranges) for ranges in shards]
    firsts = np.cumsum([0, *documents]).tolist()
    return [(i, firsts[i], ranges) for i, ranges in enumerate(shards)]


def assemble(cut: Path, folder: Path, shard: tuple) -> collections.Counter:
    """Write one planned shard from the parts' stores."""
    number, first, ranges = shard
    documents = [
        document
        for part, start, stop in ranges
        for document in WindowStore(piece_path(cut, part)).cut(start, stop)
    ]
    write_json(folder / "record.json", write_shard(folder, number, documents, first))
    return collections.Counter({"shards": 1})


def _move(piece: Path, target: Path) -> dict:
    """Move a shard's files into the store, unless they are there; return its record."""
    record = json.loads((piece / "record.json").read_text())
    for path in piece.iterdir():
        if path.name != "record.json":
            os.replace(path, target / path.name)
    return record


def write_rows(
    compute: Callable[[int, int], np.ndarray], folder: Path, rows: tuple[int, int]
) -> collections.Counter:
    """Compute and write these rows of an array."""
    save_array(folder / "rows.npy", compute(*rows))
    return collections.Counter({"rows": rows[1] - rows[0]})
