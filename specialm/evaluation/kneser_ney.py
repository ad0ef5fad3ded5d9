"""The n-gram model that a person would use instead: interpolated Kneser-Ney, of any order.

    P_n(w | h) = max(c(h w) - D_n, 0) / c(h) + gamma(h) P_(n-1)(w | h')

down to the uniform distribution over the vocabulary (Kneser and Ney 1995; Chen and Goodman 1999,
section 2.7). The highest order has counts; a lower one, of each n-gram, the number of different
tokens before it, where the beginning of a window counts once for each time (our reading: contexts
do not reach beyond a window, as for our models). D_n = n1 / (n1 + 2 n2) (Ney, Essen and Kneser
1994). gamma(h) is what the n-grams after h leave.
"""

import bisect
import zlib
from dataclasses import dataclass

import numpy as np

from specialm.evaluation.ngrams import NgramIndex, Windows

ORDER = 5


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order.

    Attributes:
      key_G: context * V + token, sorted; the context is a number of the next lower order.
      count_G: as above.
      seen_G: how often they occur, by which `pruned` chooses.
      total_C: the sum of `count_G` after each context, with those that were pruned.
      discount: D.

    """

    key_G: np.ndarray
    count_G: np.ndarray
    seen_G: np.ndarray
    total_C: np.ndarray
    discount: float


class KneserNey:
    """An n-gram model of tokens; make one with `of`."""

    def __init__(self, orders: list[_Order], vocabulary_size: int):
        self._orders, self._size = orders, vocabulary_size

    @classmethod
    def of(cls, windows: Windows, vocabulary_size: int, order: int = ORDER) -> "KneserNey":
        """Return the model of the n-grams of some windows."""
        index = NgramIndex(windows, vocabulary_size, order)
        seen = index.counts(np.ones(len(windows.tokens_NxL)))
        counts = [*index.continuations(), seen[-1]]
        orders, contexts = [], 1
        for key_G, count_G, seen_G in zip(index.keys, counts, seen, strict=True):
            total_C = np.bincount(key_G // vocabulary_size, count_G, contexts)
            orders.append(_Order(key_G, count_G, seen_G, total_C, _discount(count_G)))
            contexts = len(key_G)
        return cls(orders, vocabulary_size)

    @property
    def sizes(self) -> list[int]:
        """How many n-grams it has of each order."""
        return [len(order.key_G) for order in self._orders]

    @property
    def num_bytes(self) -> int:
        """What it takes as a file: sorted keys, counts and totals, packed by zlib."""
        size = 0
        for order in self._orders:
            step_G = np.diff(order.key_G, prepend=0)
            for values in (step_G, order.count_G, order.total_C):
                size += len(_packed(values))
        return size

    def probabilities(self, windows: Windows) -> np.ndarray:
        """Return float64 [N, L]: of each token, given those before it in its window."""
        return self.walked(windows)[0]

    def walked(self, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
        """Return `probabilities`, and int [N, L]: how many orders know what is before each token,
        from 1 (nothing but the order of single tokens) up to the highest.
        """
        shape = windows.tokens_NxL.shape
        p_NxL, context_NxL = np.full(shape, 1 / self._size), np.zeros(shape, np.int64)
        known_by_NxL = np.zeros(shape, np.int64)
        for order in self._orders:
            own_G = np.maximum(order.count_G - order.discount, 0.0)
            own_G = own_G / order.total_C[order.key_G // self._size]
            kept_C = np.bincount(order.key_G // self._size, own_G, len(order.total_C))
            known_NxL = windows.mask_NxL & (context_NxL >= 0)
            known_NxL[known_NxL] = order.total_C[context_NxL[known_NxL]] > 0
            known_by_NxL += known_NxL
            ngram_NxL = np.full(shape, -1, np.int64)
            key_T = context_NxL[known_NxL] * self._size + windows.tokens_NxL[known_NxL]
            place_T = np.searchsorted(order.key_G, key_T)
            found_T = place_T < len(order.key_G)
            found_T[found_T] = order.key_G[place_T[found_T]] == key_T[found_T]
            ngram_NxL[known_NxL] = np.where(found_T, place_T, -1)
            p_T = (1 - kept_C[context_NxL[known_NxL]]) * p_NxL[known_NxL]
            p_T[found_T] += own_G[place_T[found_T]]
            p_NxL[known_NxL] = p_T
            context_NxL = np.full(shape, -1, np.int64)
            context_NxL[:, 1:] = ngram_NxL[:, :-1]
        return p_NxL, known_by_NxL

    def pruned(self, num_bytes: int) -> "KneserNey":
        """Return the model without the n-grams, of order 2 and more, that occur less than so often
        that it takes `num_bytes` at most; what they had goes to the lower orders.
        """
        highest = max((int(order.seen_G.max(initial=0)) for order in self._orders[1:]), default=0)
        leasts = [1]
        while leasts[-1] <= highest:
            leasts.append(leasts[-1] + max(1, leasts[-1] // 4))
        # The size falls as the least count rises. Few of the models tried are large.
        place = bisect.bisect_left(
            leasts, True, key=lambda least: self._at_least(least).num_bytes <= num_bytes
        )
        return self._at_least(leasts[min(place, len(leasts) - 1)])

    def _at_least(self, least: int) -> "KneserNey":
        """Without n-grams of order 2 and more that occur less often. A context occurs at least as
        often as what begins with it, so that it stays as well.
        """
        orders, number_C = [self._orders[0]], np.arange(self.sizes[0])
        for order in self._orders[1:]:
            kept = order.seen_G >= least
            context_G = number_C[order.key_G[kept] // self._size]
            key_G = context_G * self._size + order.key_G[kept] % self._size
            total_C = order.total_C[number_C >= 0]
            orders.append(
                _Order(key_G, order.count_G[kept], order.seen_G[kept], total_C, order.discount)
            )
            number_C = np.where(kept, np.cumsum(kept) - 1, -1)
        return KneserNey(orders, self._size)


def _discount(count_G: np.ndarray) -> float:
    once, twice = np.sum(count_G == 1), np.sum(count_G == 2)
    return float(once / (once + 2 * twice)) if once else 0.5


def _packed(values: np.ndarray) -> bytes:
    """Whole numbers, byte plane by byte plane."""
    planes = values.astype("<u8").view(np.uint8).reshape(-1, 8)
    return zlib.compress(np.ascontiguousarray(planes.T).tobytes(), 6)
