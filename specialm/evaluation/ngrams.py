"""An interpolated n-gram model of windows of tokens, trained again in a second under other weights.

The n-grams of a set of windows are numbered once (`NgramIndex`); a model is then a weighted count
of each. Orders are interpolated with absolute discounting (Ney, Essen and Kneser 1994, eq. 8): of
every n-gram's count D is taken away and given to the distribution of the next lower order,

    P_k(w | h) = max(c(h w) - D, 0) / c(h) + sum_v min(c(h v), D) / c(h) * P_(k-1)(w | h')

down to the uniform distribution over the vocabulary. Contexts do not reach beyond a window. Plain
NumPy; sums in float64.
"""

from dataclasses import dataclass

import numpy as np

from specialm.data.store import WindowStore

KNESER_NEY = 0.75  # a usual discount


@dataclass(frozen=True)
class Windows:
    """Windows of tokens.

    Attributes:
      tokens_NxL: int, 0 after the ends.
      mask_NxL: bool, where there is a token.
      bytes: of their text, all together.

    """

    tokens_NxL: np.ndarray
    mask_NxL: np.ndarray
    bytes: int

    @classmethod
    def of(cls, store: WindowStore, indices_N: np.ndarray) -> "Windows":
        """Return those of a store."""
        mask_NxL = np.arange(store.context) < store.sizes_N[indices_N][:, None]
        return cls(store.read(indices_N), mask_NxL, int(store.bytes_N[indices_N].sum()))


@dataclass(frozen=True)
class _Places:
    """One order of n-grams at every position of some windows.

    Attributes:
      context_NxL: number of the n-gram before it, -1 for one that is not in the index or that
        begins before the window.
      ngram_NxL: number of the n-gram that ends there, -1 likewise.

    """

    context_NxL: np.ndarray
    ngram_NxL: np.ndarray


class NgramIndex:
    """The different n-grams of some windows, of every order up to the highest.

    An n-gram is numbered by (number of its first n - 1 tokens, last token), in that order.

    Args:
      windows: whose n-grams they are.
      vocabulary_size: V.
      order: the highest.

    """

    def __init__(self, windows: Windows, vocabulary_size: int, order: int = 3):
        self.vocabulary_size = vocabulary_size
        self._keys: list[np.ndarray] = []  # of each order: context * V + token, sorted
        self._row: list[np.ndarray] = []  # of each order: windows of the n-grams that occur ...
        self._number: list[np.ndarray] = []  # ... and their numbers
        self._suffix: list[np.ndarray] = []  # of each order: number without its first token
        self._opening: list[np.ndarray] = []  # of each order: how often at a window's beginning
        context_NxL = np.zeros(windows.tokens_NxL.shape, np.int64)
        shorter_NxL = context_NxL  # the n-gram of the next lower order that ends there
        for n in range(order):
            there = np.nonzero(windows.mask_NxL & (context_NxL >= 0))
            key = context_NxL[there] * vocabulary_size + windows.tokens_NxL[there]
            keys, number = np.unique(key, return_inverse=True)
            self._keys.append(keys)
            suffix = np.empty(len(keys), np.int64)
            suffix[number] = shorter_NxL[there]
            self._suffix.append(suffix)
            self._opening.append(np.bincount(number[there[1] == n], minlength=len(keys)))
            self._row.append(there[0].astype(np.int32))
            self._number.append(number.astype(np.int32))
            ngram_NxL = np.full(context_NxL.shape, -1, np.int64)
            ngram_NxL[there] = number
            shorter_NxL, context_NxL = ngram_NxL, _shifted(ngram_NxL)

    @property
    def sizes(self) -> list[int]:
        """Different n-grams of each order."""
        return [len(keys) for keys in self._keys]

    @property
    def keys(self) -> list[np.ndarray]:
        """Of each order: context * V + token, sorted."""
        return self._keys

    def continuations(self) -> list[np.ndarray]:
        """Return of each n-gram, of all orders but the highest: how many different ones of the next
        order end with it, and how often a window begins with it.
        """
        return [
            np.bincount(suffix, minlength=len(keys)) + opening
            for keys, suffix, opening in zip(
                self._keys, self._suffix[1:], self._opening, strict=False
            )
        ]

    def counts(self, weight_N: np.ndarray) -> list[np.ndarray]:
        """Return float64 [n-grams] of each order: occurrences, each window weighted."""
        return [
            np.bincount(number, weight_N[row], len(keys))
            for keys, row, number in zip(self._keys, self._row, self._number, strict=True)
        ]

    def places(self, windows: Windows) -> list[_Places]:
        """Return where windows of any text have n-grams of this index, for each order."""
        found, context_NxL = [], np.zeros(windows.tokens_NxL.shape, np.int64)
        for keys in self._keys:
            known = windows.mask_NxL & (context_NxL >= 0)
            key = context_NxL * self.vocabulary_size + windows.tokens_NxL
            place = np.searchsorted(keys, key)
            known_NxL = known & (place < len(keys))
            known_NxL[known_NxL] = keys[place[known_NxL]] == key[known_NxL]
            ngram_NxL = np.where(known_NxL, place, -1)
            found.append(_Places(np.where(known, context_NxL, -1), ngram_NxL))
            context_NxL = _shifted(ngram_NxL)
        return found

    def probabilities(
        self, counts: list[np.ndarray], places: list[_Places], discount: float = KNESER_NEY
    ) -> np.ndarray:
        """Return float64 [N, L]: of each token, given those before it in its window.

        Args:
          counts: from `counts`.
          places: from `places`, of the windows that are scored.
          discount: D, the same for every order.

        """
        p_NxL = np.full(places[0].context_NxL.shape, 1 / self.vocabulary_size)
        for keys, count, at in zip(self._keys, counts, places, strict=True):
            context = keys // self.vocabulary_size
            total = np.bincount(context, count)
            cut = np.bincount(context, np.minimum(count, discount))
            # The last n-grams of an order may be the context of none.
            known_NxL = (at.context_NxL >= 0) & (at.context_NxL < len(total))
            known_NxL[known_NxL] = total[at.context_NxL[known_NxL]] > 0
            context_T, ngram_T = at.context_NxL[known_NxL], at.ngram_NxL[known_NxL]
            own_T = np.where(ngram_T >= 0, count[ngram_T], 0.0)
            own_T = np.maximum(own_T - discount, 0.0) + cut[context_T] * p_NxL[known_NxL]
            p_NxL[known_NxL] = own_T / total[context_T]
        return p_NxL


def _shifted(ngram_NxL: np.ndarray) -> np.ndarray:
    """The n-gram that ends before each position; -1 at the first one."""
    context_NxL = np.full_like(ngram_NxL, -1)
    context_NxL[:, 1:] = ngram_NxL[:, :-1]
    return context_NxL


def mixed(p_T: np.ndarray, q_T: np.ndarray, rounds: int = 30) -> tuple[np.ndarray, float]:
    """Return the mixture of two models' probabilities that is most likely, and the share of `q_T`.

    Fitted by expectation maximisation on the very tokens: one number.
    """
    share = 0.5
    for _ in range(rounds):
        share = float(np.mean(share * q_T / (share * q_T + (1 - share) * p_T)))
    return share * q_T + (1 - share) * p_T, share


def bits_per_byte(p_T: np.ndarray, num_bytes: int) -> float:
    """Return the bits per byte of tokens with these probabilities."""
    return float(-np.log2(p_T).sum() / num_bytes)
