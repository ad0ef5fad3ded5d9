"""What a person would use instead of a small network, on the same text and scored on the same.

A baseline is one function of a `Text` and one line of `BASELINES`. It is given the generic training
windows and the domain's specialist training windows; what it chooses, it chooses on validation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.evaluation import compressor, contamination, kneser_ney, ngrams
from specialm.evaluation.kneser_ney import KneserNey
from specialm.evaluation.ngrams import Windows

Selected = tuple[WindowStore, np.ndarray]  # a store and windows of it


class Corpus:
    """The generic training windows, and what is made of them once for all domains."""

    def __init__(self, windows: Selected, vocabulary: Vocabulary):
        self.windows, self.vocabulary = windows, vocabulary

    @cached_property
    def model(self) -> KneserNey:
        """The n-gram model of the generic windows."""
        return KneserNey.of(Windows.of(*self.windows), self.vocabulary.size)

    @cached_property
    def generic(self) -> bytes:
        """The text of the generic windows."""
        return self.text(self.windows)

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
    the best on validation windows.
    """
    models = [text.corpus.model, KneserNey.of(Windows.of(*text.train), text.corpus.vocabulary.size)]

    def both(selected: Selected) -> tuple[np.ndarray, np.ndarray]:
        windows = Windows.of(*selected)
        p_T, q_T = (model.probabilities(windows)[windows.mask_NxL] for model in models)
        return p_T, q_T

    share = ngrams.mixed(*both(text.valid))[1]
    p_T, q_T = both(text.heldout)
    return {
        "nll": float(-np.log(share * q_T + (1 - share) * p_T).sum()),
        "served_bytes": sum(model.num_bytes for model in models),
        "specialist_share": share,
    }


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
      key: what else its figures depend on.
    """

    label: str
    description: str
    score: Callable[[Text], dict]
    key: tuple = ()


BASELINES = {
    "ngram": Baseline(
        f"{kneser_ney.ORDER}-gram",
        "an interpolated Kneser-Ney model of the generic and one of the specialist text, mixed",
        kneser_ney_mixed,
        (kneser_ney.ORDER,),
    ),
    "lzma": Baseline(
        "LZMA", "a compressor with the generic and the specialist text in front", lzma
    ),
}
