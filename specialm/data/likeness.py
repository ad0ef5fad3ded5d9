"""How like a domain's text each generic window is, by hashed n-grams of words: the importance
weights of DSIR (Xie et al. 2023, arXiv 2302.03169, section 3).

A text's features z count its words and pairs of words in `BUCKETS` hash buckets. A bag of n-grams,
p(z) = prod_j gamma_j^z_j with gamma_j the share of the n-grams in bucket j (equation 3 there), is
fitted to the domain's text and one to the generic text; a window's importance weight is the ratio
of the two. Plain NumPy, sums in float64.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specialm.common import manifest
from specialm.common.files import write_with

BUCKETS = 10_000  # as published
LEAST = 1e-8  # added to every share, as in the authors' code; a bucket may be empty
WORDS = re.compile(r"\w+|[^\w\s]+")


@dataclass(frozen=True)
class Likeness:
    """Of each of N generic windows.

    Attributes:
      log_weight_N: float64, log of the importance weight.
      ngrams_N: int64, its words and pairs of words.
      source_N: int32, number of the source that it is of.
      sources: their names.
    """

    log_weight_N: np.ndarray
    ngrams_N: np.ndarray
    source_N: np.ndarray
    sources: tuple[str, ...]

    @property
    def by_source(self) -> np.ndarray:
        """float64 [sources]: mean log ratio of an n-gram."""
        weight = np.bincount(self.source_N, self.log_weight_N, len(self.sources))
        ngrams = np.bincount(self.source_N, self.ngrams_N, len(self.sources))
        return weight / np.maximum(ngrams, 1)

    def save(self, path: Path) -> None:
        """Write it into one file."""
        write_with(
            path,
            lambda stream: np.savez(
                stream,
                log_weight=self.log_weight_N,
                ngrams=self.ngrams_N,
                source=self.source_N,
                sources=np.array(self.sources),
            ),
        )

    @classmethod
    def load(cls, path: Path) -> "Likeness":
        """Read a file that `save` wrote.

        Raises:
          UserError: it is damaged.
        """
        with manifest.arrays(path) as saved:
            names = tuple(str(name) for name in saved["sources"])
            return cls(saved["log_weight"], saved["ngrams"], saved["source"], names)


def buckets(text: str) -> list[int]:
    """Return the bucket of each word of a text, in lower case, and of each pair of words."""
    words = WORDS.findall(text.lower())
    pairs = (f"{a} {b}" for a, b in zip(words, words[1:], strict=False))
    return [zlib.crc32(ngram.encode()) % BUCKETS for ngram in (*words, *pairs)]


def counts(texts: Iterable[str]) -> np.ndarray:
    """Return int64 [BUCKETS]: the n-grams of all texts in each bucket."""
    total_J = np.zeros(BUCKETS, np.int64)
    for text in texts:
        total_J += np.bincount(buckets(text), minlength=BUCKETS)
    return total_J


def log_ratio(special_J: np.ndarray, generic_J: np.ndarray) -> np.ndarray:
    """Return float64 [BUCKETS]: log of the domain's share of a bucket over the generic one."""
    special, generic = (x_J / max(1, x_J.sum()) + LEAST for x_J in (special_J, generic_J))
    return np.log(special) - np.log(generic)


def log_weights(texts: Iterable[str], ratio_J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (float64 [N], log weight of each text; int64 [N], its n-grams)."""
    weights, sizes = [], []
    for text in texts:
        found = buckets(text)
        weights.append(float(ratio_J[found].sum()))
        sizes.append(len(found))
    return np.array(weights, np.float64), np.array(sizes, np.int64)


def gumbel_top_k(log_weight_N: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Return int64 [k], sorted: k windows drawn without replacement, each time in proportion to the
    weights of those that are left.

    Those are the k largest of log w + Gumbel noise (Vieira 2014; Kool et al. 2019, arXiv
    1903.06059).
    """
    noise_N = np.random.default_rng([seed, len(log_weight_N), BUCKETS]).gumbel(
        size=len(log_weight_N)
    )
    return np.sort(np.argsort(-(log_weight_N + noise_N), kind="stable")[:k])


def nearest_sources(likeness: Likeness, k: int) -> list[int]:
    """Return the numbers of the sources most like the domain, the nearest first, as many as have k
    windows together.
    """
    size = np.bincount(likeness.source_N, minlength=len(likeness.sources))
    order = np.argsort(-likeness.by_source, kind="stable")
    needed = int(np.searchsorted(np.cumsum(size[order]), k)) + 1
    return order[:needed].tolist()
