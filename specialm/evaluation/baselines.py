"""What a person would use instead of a small network, on the same text and scored on the same.

A baseline is one function of a `Text` and one line of `BASELINES`. It is given the generic training
windows and the domain's specialist training windows; what it chooses, it chooses on validation.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.evaluation import compressor, contamination, kneser_ney, ngrams
from specialm.evaluation.kneser_ney import KneserNey
from specialm.evaluation.ngrams import Windows

SHARES = (0.25, 0.5, 0.75)  # of a limited size, for the model of the specialist text
Selected = tuple[WindowStore, np.ndarray]  # a store and windows of it


@dataclass(frozen=True)
class Sizes:
    """How large a baseline may be, where it has a size.

    Attributes:
      order: of n-gram models.
      num_bytes: of all that is served, at most; 0 for any.
    """

    order: int = kneser_ney.ORDER
    num_bytes: int = 0


class Corpus:
    """The generic training windows, and what is made of them once for all domains."""

    def __init__(self, windows: Selected, vocabulary: Vocabulary, sizes: Sizes | None = None):
        self.windows, self.vocabulary, self.sizes = windows, vocabulary, sizes or Sizes()
        self._built: dict[tuple[str, int], Any] = {}
        self._locks = {kind: threading.Lock() for kind in ("model", "pruned", "text")}

    @property
    def model(self) -> KneserNey:
        """The n-gram model of the generic windows."""
        return self._once("model", 0, lambda: self.model_of(self.windows))

    def model_of(self, windows: Selected) -> KneserNey:
        """The n-gram model of any windows."""
        return KneserNey.of(Windows.of(*windows), self.vocabulary.size, self.sizes.order)

    def pruned(self, num_bytes: int) -> KneserNey:
        """`model`, in so many bytes at most."""
        return self._once("pruned", num_bytes, lambda: self.model.pruned(num_bytes))

    @property
    def generic(self) -> bytes:
        """The text of the generic windows."""
        return self._once("text", 0, lambda: self.text(self.windows))

    def _once(self, kind: str, key: int, build: Callable[[], Any]) -> Any:
        """What is built once, though domains are scored side by side."""
        with self._locks[kind]:
            if (kind, key) not in self._built:
                self._built[kind, key] = build()
            return self._built[kind, key]

    def text(self, windows: Selected) -> bytes:
        """Return the text of windows, one after another."""
        store, indices = windows
        return "".join(contamination.window_texts(store, self.vocabulary, indices)).encode()


@dataclass(frozen=True)
class Text:
    """What a baseline is given of a domain."""

    corpus: Corpus
    train: Selected
    valid: Selected
    heldout: Selected


def kneser_ney_mixed(text: Text) -> dict:
    """Two n-gram models, of the generic and of the specialist text; their mixture's one weight is
    the best on validation windows, and so is what each gets of a limited size.
    """
    pair, share = _best_pair(text)
    return {
        "nll": float(-np.log(_mixed(text, pair, share)).sum()),
        "served_bytes": sum(model.num_bytes for model in pair),
        "specialist_share": share,
    }


def mixed_probabilities(text: Text) -> np.ndarray:
    """The probability of every held-out token, window by window, under the same mixture."""
    return _mixed(text, *_best_pair(text))


def _best_pair(text: Text) -> tuple[tuple[KneserNey, KneserNey], float]:
    """(the models, the specialist's share), by validation windows."""
    own, num_bytes = text.corpus.model_of(text.train), text.corpus.sizes.num_bytes
    if num_bytes:
        pairs = [
            (text.corpus.pruned(num_bytes - part), own.pruned(part))
            for part in (round(share * num_bytes) for share in SHARES)
        ]
    else:
        pairs = [(text.corpus.model, own)]
    tried = [ngrams.mixed(*_both(pair, text.valid)) for pair in pairs]
    best = max(range(len(pairs)), key=lambda i: float(np.log(tried[i][0]).sum()))
    return pairs[best], tried[best][1]


def _mixed(text: Text, pair: tuple[KneserNey, KneserNey], share: float) -> np.ndarray:
    p_T, q_T = _both(pair, text.heldout)
    return share * q_T + (1 - share) * p_T


def _both(models: tuple[KneserNey, KneserNey], selected: Selected) -> tuple[np.ndarray, np.ndarray]:
    """The probability of every token of some windows under both."""
    windows = Windows.of(*selected)
    p_T, q_T = (model.probabilities(windows)[windows.mask_NxL] for model in models)
    return p_T, q_T


def lzma(text: Text) -> dict:
    """LZMA2 with the generic and the specialist text in front: what the held-out text adds. Its
    nats are those of as many bytes as the windows have.
    """
    corpus = text.corpus
    own = corpus.text(text.heldout)
    served, added = compressor.added_bytes(corpus.generic + corpus.text(text.train), own)
    store, indices = text.heldout
    total = int(store.bytes_N[indices].sum())
    return {"nll": 8 * added / len(own) * float(np.log(2)) * total, "served_bytes": served}


@dataclass(frozen=True)
class Baseline:
    """One line of the table.

    Attributes:
      label, description: for people.
      score: (text) -> {"nll": nats of the held-out windows, "served_bytes", and what it chose}.
      key: (sizes) -> what else its figures depend on.
    """

    label: str
    description: str
    score: Callable[[Text], dict]
    key: Callable[[Sizes], tuple] = lambda sizes: ()


BASELINES = {
    "ngram": Baseline(
        f"{kneser_ney.ORDER}-gram",
        "an interpolated Kneser-Ney model of the generic and one of the specialist text, mixed",
        kneser_ney_mixed,
        lambda sizes: (sizes.order, *([sizes.num_bytes] if sizes.num_bytes else [])),
    ),
    "lzma": Baseline(
        "LZMA", "a compressor with the generic and the specialist text in front", lzma
    ),
}
