"""Preparation in pieces that can be made anywhere, in any order and more than once.

A piece is a folder that is made under a name of its own and renamed when it is whole: killed
workers leave nothing that counts, and of two workers at the same piece one wins. What comes out is
byte for byte what one process writes: the parts of a source (runs of its files) are cut into
windows independently, then the shards are planned from the documents' sizes, then each shard is
put together from the parts that it reaches into.
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

import numpy as np

from specialm.common.files import save_array, write_json
from specialm.common.stages import fingerprint
from specialm.data import prepare
from specialm.data.documents import Source
from specialm.data.store import StoreWriter, WindowStore, finish, write_shard
from specialm.data.vocabularies import Vocabulary
from specialm.data.windows import Split, windows

PART_BYTES = 1 << 26  # of a source's files, packed as they are, that are one piece

Make = Callable[[Path, object], collections.Counter]  # (empty folder, item) -> what to count
Each = Callable[[str, Path, Sequence, Make], object]  # (title, folder, items, make)


def path_of(folder: Path, number: int) -> Path:
    """The folder of a piece."""
    return folder / f"{number:05d}"


def _folder(path: Path, kind: str, items: list) -> Path:
    """Where a stage's pieces lie: never those of other items, say of another `part_bytes`."""
    return path / "pieces" / f"{kind}-{fingerprint(items)[:10]}"


def make_once(target: Path, make: Make, item) -> collections.Counter:
    """Has `make` fill the folder `target`, unless it is there."""
    if target.exists():
        return collections.Counter({"pieces reused": 1})
    attempt = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    attempt.mkdir(parents=True)
    counts = make(attempt, item)
    try:
        attempt.rename(target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(attempt)  # another worker was faster with the same piece
    return counts + collections.Counter({"pieces made": 1})


def here(title: str, folder: Path, items: Sequence, make: Make) -> None:
    """Makes all pieces in this process: the simplest `Each`."""
    for number, item in enumerate(items):
        make_once(path_of(folder, number), make, item)


def parts(source: Source, part_bytes: int) -> list[tuple[Path, ...]]:
    """Runs of a source's files, of at least `part_bytes` each but for the last; a file is never
    divided, and no files at all are no part.
    """
    runs, run, size = [], [], 0
    for path in source.files:
        run.append(path)
        size += path.stat().st_size
        if size >= part_bytes:
            runs.append(tuple(run))
            run, size = [], 0
    return [*runs, tuple(run)] if run else runs


@dataclass(frozen=True)
class InPieces(prepare.LocalReader):
    """How `prepare` works when `each` has the pieces made elsewhere.

    A source of one part only, or one that is not made of files, is read in this process.
    """

    each: Each
    part_bytes: int = PART_BYTES

    def scan(self, path: Path, name: str, source: Source) -> prepare.Scanned:
        """Counts and hashes the parts of a source."""
        runs = self._parts(source)
        if len(runs) < 2:
            return super().scan(path, name, source)
        folder = _folder(path, "scan", [list(map(str, run)) for run in runs])
        self.each(f"scan {name}", folder, runs, partial(scan_part, source))
        made = [
            prepare.Scanned(**json.loads((path_of(folder, i) / "scan.json").read_text()))
            for i in range(len(runs))
        ]
        shutil.rmtree(path / "pieces")
        return prepare.joined(made)

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
        """Writes the window store of a split."""
        runs = self._parts(source)
        if len(runs) < 2:
            super().write(path, name, settings, source, vocabulary, split, shard_tokens, size)
            return
        cut = _folder(path, "parts", [[list(map(str, run)) for run in runs], shard_tokens])
        self.each(
            f"windows {name}",
            cut,
            runs,
            partial(cut_part, source, settings, vocabulary, split, shard_tokens),
        )
        stores = [path_of(cut, i) for i in range(len(runs))]
        planned = plan((_document_tokens(store) for store in stores), shard_tokens)
        shards = _folder(path, "shards", [cut.name, planned])
        self.each(f"shards {name}", shards, planned, partial(assemble, cut))
        records = [_move(path_of(shards, i), path) for i in range(len(planned))]
        finish(path, settings, records, _counts(stores))
        shutil.rmtree(path / "pieces")

    def _parts(self, source: Source) -> list[tuple[Path, ...]]:
        return parts(source, self.part_bytes) if source.read else []

    def rows(
        self,
        title: str,
        folder: Path,
        count: int,
        chunk: int,
        make: Callable[[int, int], np.ndarray],
    ) -> Callable[[int, int], np.ndarray]:
        """Has `make(start, stop)` called for every `chunk` of `count` rows; what it made is found
        again by the function returned. The caller removes the folder in the end.
        """
        starts = range(0, count, chunk)
        self.each(
            title,
            folder,
            [(start, min(start + chunk, count)) for start in starts],
            partial(make_rows, make),
        )
        return lambda start, stop: np.load(path_of(folder, start // chunk) / "rows.npy")


def scan_part(source: Source, folder: Path, files: tuple[Path, ...]) -> collections.Counter:
    """Counts and hashes these files of a source."""
    scanned = prepare.scan_files(source, files)
    write_json(folder / "scan.json", vars(scanned))
    return collections.Counter(scanned.counts)


def cut_part(
    source: Source,
    settings: dict,
    vocabulary: Vocabulary,
    split: Split,
    shard_tokens: int,
    folder: Path,
    files: tuple[Path, ...],
) -> collections.Counter:
    """Cuts these files of a source into a window store of their own."""
    counts = collections.Counter()
    some = Source(source.name, partial(source.read, files), files, source.read)
    StoreWriter(folder, settings, shard_tokens).write(
        windows(some, vocabulary, settings["context"], split, settings["split"], counts), counts
    )
    made = WindowStore(folder).index
    return counts + collections.Counter({key: made[key] for key in ("windows", "tokens")})


def _document_tokens(path: Path) -> np.ndarray:
    """int64: the tokens of each document of a store."""
    store = WindowStore(path)
    tokens = np.bincount(store.document_N, store.sizes_N, store.index["documents"])
    return tokens.astype(np.int64)


def _counts(stores: list[Path]) -> collections.Counter:
    counts = collections.Counter()
    for path in stores:
        counts.update(WindowStore(path).index["counts"])
    return counts


def plan(tokens_of_parts: Iterable[np.ndarray], shard_tokens: int) -> list[tuple]:
    """The shards that one writer would fill with all documents in turn: (number, documents in
    front of it, [(part, first document, behind the last), ...]) of each.
    """
    shards, pending, size = [], [], 0
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
    """Writes one planned shard out of the parts' stores."""
    number, first, ranges = shard
    documents = [
        document
        for part, start, stop in ranges
        for document in WindowStore(path_of(cut, part)).cut(start, stop)
    ]
    write_json(folder / "record.json", write_shard(folder, number, documents, first))
    return collections.Counter({"shards": 1})


def _move(piece: Path, target: Path) -> dict:
    """Moves a shard's files into the store, as far as that is not done; returns its record."""
    record = json.loads((piece / "record.json").read_text())
    for path in piece.iterdir():
        if path.name != "record.json":
            os.replace(path, target / path.name)
    return record


def make_rows(
    make: Callable[[int, int], np.ndarray], folder: Path, rows: tuple[int, int]
) -> collections.Counter:
    """Makes these rows of an array."""
    save_array(folder / "rows.npy", make(*rows))
    return collections.Counter({"rows": rows[1] - rows[0]})
