"""Patches by entropy: a text is cut where the next byte gets harder to foresee.

Of the Byte Latent Transformer (Pagnoni et al., arXiv 2412.09871, section 2.3): a patch begins at
byte t if H(t) - H(t - 1) > a threshold, where H(t) is the entropy of the distribution of byte t
given the bytes before it ("approximate monotonic constraint"). There it is a small transformer's;
here it is of a model of the two bytes before. That is a table of 65,536 entropies, which the file
holds in quarters of a bit: cutting compares whole numbers, and is the same on every machine. Of the
two rules in the paper this one gives fewer tokens for our tables than H(t) > a threshold.

No patch has more than `longest` bytes: a longer stretch without a boundary is cut after every
`longest`, and after FAR bytes without one at every byte. So where a text is cut depends on the
FAR + 2 bytes before at most.
"""

import base64
import collections
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.files import write_json
from specialm.data.vocabularies.known_patches import (
    KnownPatches,
    join,
    most_frequent,
    room,
    spell,
    split_whole,
    too_little,
)
from specialm.data.vocabularies.plain_bytes import SPECIAL

FILE, KIND = "entropy.json", "entropy"
PARTS = 4  # of a bit, in which entropies are stored
RISES = (1, 2, 3, 4, 5)  # thresholds that training tries, in parts of a bit
PRIOR = 4  # bytes that a shorter context counts as
FAR = 1024  # bytes without a boundary


class EntropyPatches(KnownPatches):
    """The vocabulary in the file `entropy.json`; the patches are ordered by their length.

    Attributes:
      longest: bytes of a patch, at most.
      rise: the threshold, in quarters of a bit.
      entropies_256x256: uint8, of the next byte after the bytes x and y, in quarters of a bit.

    """

    KIND, FILE = KIND, FILE

    def _open(self, layout: dict[str, Any]) -> list[bytes]:
        self.longest, self.rise = int(layout["longest"]), int(layout["rise"])
        table = zlib.decompress(base64.b85decode(layout["entropies"]))
        self.entropies_256x256 = np.frombuffer(table, np.uint8).reshape(256, 256)
        if self.longest < 2 or self.entropies_256x256.max() > 8 * PARTS:
            raise ValueError("a byte has 8 bits at most, and a patch 2 bytes at least")
        layout["entropies"] = table.hex()  # builds of zlib compress it to different bytes
        found: list[bytes] = []
        for length, joined in layout["patches"].items():
            if int(length) > self.longest:
                raise ValueError(f"it has patches of {length} bytes, not {self.longest} at most")
            found += split_whole(joined, int(length))
        return found

    def _cut(self, content: bytes) -> list[bytes]:
        return cut(content, self.entropies_256x256, self.rise, self.longest)


def cut(content: bytes, entropies_256x256: np.ndarray, rise: int, longest: int) -> list[bytes]:
    """Return the patches of a text.

    Args:
      content: the text.
      entropies_256x256, rise, longest: see `EntropyPatches`.

    """
    starts = np.flatnonzero(boundaries(content, entropies_256x256, rise, longest)).tolist()
    ends = [*starts[1:], len(content)]
    return [content[start:end] for start, end in zip(starts, ends, strict=bool(starts))]


def boundaries(
    content: bytes, entropies_256x256: np.ndarray, rise: int, longest: int
) -> np.ndarray:
    """Return bool [bytes]: whether a patch begins at a byte. Zeros stand before the first byte."""
    if not content:
        return np.zeros(0, bool)
    bytes_N = np.frombuffer(bytes(2) + content, np.uint8)
    levels_N = entropies_256x256[bytes_N[:-2], bytes_N[1:-1]].astype(np.int16)
    hard_N = np.diff(levels_N, prepend=levels_N[:1]) > rise
    hard_N[0] = True
    places_N = np.arange(len(content))
    ages_N = places_N - np.maximum.accumulate(np.where(hard_N, places_N, 0))
    return (ages_N % longest == 0) | (ages_N >= FAR)


def train(texts: Iterable[str], path: Path, size: int, longest: int = 0) -> EntropyPatches:
    """Count bytes after pairs of bytes, take the threshold with which `texts` have the fewest
    tokens, and write `path` with the most frequent patches.

    Args:
      texts: any; all are held in memory.
      path: of the vocabulary.
      size: tokens.
      longest: bytes of a patch, at most.

    Raises:
      UserError: there is too little text for `size` tokens, or `size` or `longest` is too small.

    """
    wanted = room(size, longest, KIND, "most bytes of a patch")
    contents = [text.encode("utf-8", "surrogateescape") for text in texts]
    entropies_256x256 = quantize(entropies(follower_counts(contents)))
    tried = [_tried(contents, entropies_256x256, rise, longest, wanted) for rise in RISES]
    _, rise, patches = min(tried)
    if len(patches) < wanted:
        most = max(len(patches) for _, _, patches in tried)
        raise too_little(size, most)
    by_length = {
        str(length): join(p for p in patches if len(p) == length)
        for length in sorted(set(map(len, patches)))
    }
    layout = {
        "kind": KIND,
        "longest": longest,
        "rise": rise,
        "special": SPECIAL,
        "entropies": base64.b85encode(zlib.compress(entropies_256x256.tobytes(), 9)).decode(),
        "patches": by_length,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, layout)
    return EntropyPatches(path)


def _tried(
    contents: list[bytes], entropies_256x256: np.ndarray, rise: int, longest: int, wanted: int
) -> tuple[float, int, list[bytes]]:
    """(tokens of the texts, the threshold, its most frequent patches); no number of tokens if it
    gives fewer patches than are wanted.
    """
    counts: collections.Counter = collections.Counter()
    for content in contents:
        counts.update(cut(content, entropies_256x256, rise, longest))
    longer = {patch: count for patch, count in counts.items() if len(patch) > 1}
    patches = most_frequent(longer, wanted)
    if len(patches) < wanted:
        return float("inf"), rise, patches
    known = dict.fromkeys([bytes([byte]) for byte in range(256)] + patches, 0)
    tokens = sum(count * len(spell(patch, known, longest)) for patch, count in counts.items())
    return tokens, rise, patches


def follower_counts(contents: Iterable[bytes]) -> np.ndarray:
    """Return uint32 [256, 256, 256]: how often each byte comes after each pair of bytes."""
    counts = np.zeros(256**3, np.uint32)
    for content in contents:
        bytes_N = np.frombuffer(content, np.uint8).astype(np.uint32)
        found, times = np.unique(
            bytes_N[:-2] << 16 | bytes_N[1:-1] << 8 | bytes_N[2:], return_counts=True
        )
        counts[found] += times.astype(np.uint32)
    return counts.reshape(256, 256, 256)


def entropies(counts_256x256x256: np.ndarray) -> np.ndarray:
    """Return float64 [256, 256]: bits of the next byte after each pair of bytes.

    After x and y, byte b has the probability (n(x, y, b) + PRIOR p(b | y)) / (n(x, y) + PRIOR);
    p(b | y) is of the same form with p(b) in place of p(b | y), and p(b) = (n(b) + 1) / (n + 256).
    So the entropy after a pair that was not seen is the one after its second byte.
    """
    pairs_256x256 = counts_256x256x256.sum(0, dtype=np.float64)
    single_256 = pairs_256x256.sum(0)
    after_none_256 = (single_256 + 1) / (single_256.sum() + 256)
    after_one_256x256 = _smoothed(pairs_256x256, after_none_256)
    found_256x256 = np.empty((256, 256))
    for first, counts_256x256 in enumerate(counts_256x256x256):  # at once they take 0.4 GB
        after_two_256x256 = _smoothed(counts_256x256, after_one_256x256)
        found_256x256[first] = -np.sum(after_two_256x256 * np.log2(after_two_256x256), 1)
    return found_256x256


def _smoothed(counts_256x256: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    totals_256x1 = counts_256x256.sum(1, keepdims=True, dtype=np.float64)
    return (counts_256x256 + PRIOR * shorter) / (totals_256x1 + PRIOR)


def quantize(entropies_256x256: np.ndarray) -> np.ndarray:
    """Return uint8: bits in whole quarters."""
    return np.rint(entropies_256x256 * PARTS).astype(np.uint8)
