"""Contamination check: which evaluation windows are near-duplicates of training windows.

Near-duplicates are texts whose sets of word n-grams ("shingles") have a Jaccard similarity of at
least a threshold. Texts are lower-cased and taken as sequences of words, so that spacing and
punctuation do not hide a copy; a script that sets no spaces gives few words, check it by document.
MinHash and LSH of `datasketch` propose pairs, the exact Jaccard similarity of the shingle sets
decides: nothing below the threshold is reported.

Only the evaluation side, the small one, is held in memory: its texts, 8 bytes for each shingle and
its LSH. The training side streams through once. A training window of which fewer shingles occur on
the evaluation side than the threshold asks for cannot be a near-duplicate of any of its windows
and needs no MinHash; most are passed over this way.

Measured on one core of an AMD EPYC on the default corpora in windows of about 60 words: 1,600
evaluation windows to build the index, then 25,000 training windows (decoding included), for each
second of CPU time.
"""

import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.scripts import words
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary

# The chance of missing a pair exactly at the threshold; pairs above it are missed less often.
MISSED = 1e-4
DECODED = 1024  # windows read at a time
REMEMBERED = 1_000_000  # words whose hashes are held at a time
MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class ContaminationReport:
    """What `find_contamination` found.

    Attributes:
      checked: number of evaluation windows.
      trained: number of training windows.
      too_short: number of evaluation windows with fewer words than a shingle has; of these only
        exact copies are found.
      leaked: (evaluation index, training index, Jaccard similarity) of each evaluation window
        that has a near-duplicate, with the nearest training window (the first of equals); in the
        order of evaluation windows.
      covered: (evaluation index, share) of each evaluation window of whose shingles at least the
        threshold's share occurs in training windows taken together: the windows of `leaked`
        that are not too short, and copies that were cut at other places, which may be
        near-duplicates of no single window.
    """

    checked: int
    trained: int
    too_short: int
    leaked: list[tuple[int, int, float]]
    covered: list[tuple[int, float]]


def find_contamination(
    train_texts: Iterable[str],
    eval_texts: Sequence[str],
    threshold: float = 0.8,
    shingle: int = 5,
    permutations: int = 128,
    total: int | None = None,
    title: str = "contamination check",
) -> ContaminationReport:
    """Looks for near-duplicates of evaluation windows among training (or resampled) windows.

    An exact copy, up to case, spacing and punctuation, is always found. Other pairs at or above
    the threshold are missed with a probability below `MISSED` each.

    Args:
      train_texts: decoded training windows or documents; may be a generator. Pass each window
        once, however often it is sampled.
      eval_texts: decoded evaluation windows or documents.
      threshold: the least Jaccard similarity of a near-duplicate, in (0, 1].
      shingle: words of a shingle.
      permutations: of a MinHash.
      total: number of training texts, for the time left; not needed for a list.
      title: of the progress bar; "" shows none.

    Raises:
      UserError: a setting out of range, or permutations too few for the threshold.
    """
    _check(threshold, shingle)
    index = _Index(eval_texts, threshold, shingle, permutations)
    if total is None and isinstance(train_texts, Sequence):
        total = len(train_texts)
    trained, texts = 0, iter(train_texts)
    with bar(total, title, "window") as progress:
        while some := list(itertools.islice(texts, DECODED)):
            index.meet_all(trained, some)
            trained += len(some)
            progress.update(len(some))
    leaked = [(i, *found) for i, found in sorted(index.nearest.items())]
    return ContaminationReport(len(eval_texts), trained, index.too_short, leaked, index.covered())


def _check(threshold: float, shingle: int) -> None:
    if not 0 < threshold <= 1:
        raise UserError(f"threshold={threshold}: give a Jaccard similarity above 0 and up to 1.")
    if shingle < 1:
        raise UserError(f"shingle={shingle}: give at least 1 word.")


def window_texts(
    store: WindowStore, vocabulary: Vocabulary, indices_N: np.ndarray
) -> Iterator[str]:
    """The text of the windows of a store, decoded one by one; not more is held."""
    for start in range(0, len(indices_N), DECODED):
        yield from vocabulary.decode_all(store.read(indices_N[start : start + DECODED]))


def jaccard(a: Sequence[str], b: Sequence[str], shingle: int) -> float:
    """|A and B| / |A or B| of the sets of shingles of two texts, 0 if both are empty."""
    of_a, of_b = _shingles(a, shingle), _shingles(b, shingle)
    return len(of_a & of_b) / max(1, len(of_a | of_b))


def bands(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, rows) of the LSH, with as many rows as the threshold allows.

    A pair at the threshold is missed with a probability (1 - threshold^rows)^bands of at most
    `MISSED`. False candidates only cost the time to reject them, so misses are what is bounded.

    Raises:
      UserError: permutations too few for the threshold.
    """
    for rows in range(permutations // 2, 0, -1):
        count = permutations // rows
        if (1 - threshold**rows) ** count <= MISSED:
            return count, rows
    raise UserError(
        f"permutations={permutations} are too few to find pairs of "
        f"threshold={threshold}; raise either."
    )


class _Index:
    """The evaluation side, and what the training windows have shown of it so far."""

    def __init__(self, texts: Sequence[str], threshold: float, shingle: int, permutations: int):
        from datasketch import MinHash, MinHashLSH

        self.texts, self.threshold, self.shingle = texts, threshold, shingle
        self.empty = MinHash(permutations, hashfunc=int)  # shingles are hashed already
        self.lsh = MinHashLSH(num_perm=permutations, params=bands(threshold, permutations))
        self.nearest: dict[int, tuple[int, float]] = {}
        self.copies: dict[bytes, list[int]] = {}
        self.hashes: list[np.ndarray] = []
        for i, text in enumerate(texts):
            sequence = words(text)
            self.copies.setdefault(_digest(sequence, text), []).append(i)
            self.hashes.append(_hashes(sequence, shingle))
            if len(self.hashes[i]):
                self.lsh.insert(i, self._minhash(self.hashes[i]))
        self.too_short = sum(not len(hashes_S) for hashes_S in self.hashes)
        self.known = np.unique(np.concatenate([np.zeros(1, np.uint64), *self.hashes]))
        self.seen = np.zeros(len(self.known), bool)
        self.crc = _Crc()

    def meet_all(self, first: int, texts: list[str]) -> None:
        """Takes in training windows; the first one has the number `first`."""
        sequences = [words(text) for text in texts]
        sizes_N = np.fromiter(map(len, sequences), np.int64, len(sequences))
        every = itertools.chain.from_iterable(sequences)
        crcs = np.fromiter(map(self.crc.__getitem__, every), np.uint64, sizes_N.sum())
        mixed, window = _mixed(crcs, self.shingle), np.repeat(np.arange(len(texts)), sizes_N)
        whole = window[: len(mixed)] == window[len(window) - len(mixed) :]  # not across an end
        hashes, window = mixed[whole], window[: len(mixed)][whole]
        places = np.minimum(np.searchsorted(self.known, hashes), len(self.known) - 1)
        met = self.known[places] == hashes
        self.seen[places[met]] = True
        for number in self._candidates(hashes, window, met, len(texts)):
            self._meet(first + number, texts[number], sequences[number])

    def _candidates(self, hashes, window, met, count: int) -> np.ndarray:
        """The windows without a shingle, and those of whose distinct shingles enough were met.

        |A and B| / |A or B| >= threshold needs |A and B| >= threshold |A|.
        """
        some = (np.bincount(window[met], minlength=count) > 0)[window]
        distinct = np.unique(
            hashes[some] + window[some].astype(np.uint64) * MIX, return_index=True
        )[1]
        of, met = window[some][distinct], met[some][distinct]
        share_N = np.bincount(of, met, count) / np.maximum(1, np.bincount(of, minlength=count))
        short_N = np.bincount(window, minlength=count) == 0
        return np.flatnonzero(short_N | (share_N >= self.threshold))

    def _meet(self, number: int, text: str, sequence: list[str]) -> None:
        """Compares one training window with those that it may be a near-duplicate of."""
        for i in self.copies.get(_digest(sequence, text), ()):
            self._record(i, number, 1.0)
        hashes_S = _hashes(sequence, self.shingle)
        if not len(hashes_S):
            return
        for i in self.lsh.query(self._minhash(hashes_S)):
            similarity = jaccard(words(self.texts[i]), sequence, self.shingle)
            if similarity >= self.threshold:
                self._record(i, number, similarity)

    def covered(self) -> list[tuple[int, float]]:
        """(evaluation window, share of its shingles met so far) where the share is large enough."""
        shares = [
            (i, float(np.mean(self.seen[np.searchsorted(self.known, hashes_S)])))
            for i, hashes_S in enumerate(self.hashes)
            if len(hashes_S)
        ]
        return [(i, share) for i, share in shares if share >= self.threshold]

    def _record(self, i: int, number: int, similarity: float) -> None:
        if i not in self.nearest or similarity > self.nearest[i][1]:
            self.nearest[i] = number, similarity

    def _minhash(self, hashes_S: np.ndarray):
        minhash = self.empty.copy()
        minhash.update_batch((hashes_S >> np.uint64(32)).tolist())
        return minhash


def _digest(sequence: list[str], text: str) -> bytes:
    """Equal for texts of the same words; of a text without words its spacing is ignored."""
    normalised = " ".join(sequence or text.split())
    return hashlib.blake2b(normalised.encode(), digest_size=16).digest()


def _shingles(sequence: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return set(zip(*(sequence[start:] for start in range(size)), strict=False))


def _hashes(sequence: Sequence[str], size: int) -> np.ndarray:
    """uint64 [S]: sorted hashes of the distinct shingles; the same in every process."""
    crcs = np.fromiter((zlib.crc32(word.encode()) for word in sequence), np.uint64, len(sequence))
    return np.unique(_mixed(crcs, size))


def _mixed(crcs: np.ndarray, size: int) -> np.ndarray:
    """uint64: the hash of each `size` words that follow each other."""
    count = max(0, len(crcs) - size + 1)
    mixed = np.zeros(count, np.uint64)
    for start in range(size):
        mixed = (mixed ^ crcs[start : start + count]) * MIX
        mixed ^= mixed >> np.uint64(29)
    return mixed


class _Crc(dict):
    """CRC-32 of each word, computed once while it is remembered."""

    def __missing__(self, word: str) -> int:
        if len(self) >= REMEMBERED:
            self.clear()
        self[word] = zlib.crc32(word.encode())
        return self[word]
