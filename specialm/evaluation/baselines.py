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

    valid_T, share = ngrams.mixed(*both(text.valid))
    p_T, q_T = both(text.heldout)
    return {
        "nll": float(-np.log(share * q_T + (1 - share) * p_T).sum()),
        "valid_nll": float(-np.log(valid_T).sum()),
        "served_bytes": sum(model.num_bytes for model in models),
        "specialist_share": share,
    }


def lzma(text: Text) -> dict:
    """LZMA2 with the generic and the specialist text in front. Bits are those that it adds, for the
    bytes of its text.
    """
    corpus = text.corpus
    before = corpus.generic + corpus.text(text.train)

    def nll(selected: Selected) -> float:
        own = corpus.text(selected)
        total = int(selected[0].bytes_N[selected[1]].sum())
        return compressor.bits_per_byte(before, own) * float(np.log(2)) * total

    return {
        "nll": nll(text.heldout),
        "valid_nll": nll(text.valid),
        "served_bytes": compressor.compressed_bytes(before),
    }


@dataclass(frozen=True)
class Baseline:
    """One line of the table.

    Attributes:
      label, description: for people.
      score: (text) -> {"nll", "valid_nll": nats of the held-out and validation windows,
        "served_bytes", and what it chose}.
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
