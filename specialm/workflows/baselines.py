"""What a person would use instead of a small network, on the same text and scored on the same.

A baseline is one function of a `Text` and one line of `BASELINES`. It is given the generic training
windows and the domain's specialist training windows; what it chooses, it chooses on validation.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common.stages import digest
from specialm.data.store import WindowStore
from specialm.evaluation import compressor, contamination, kneser_ney, ngrams
from specialm.evaluation.kneser_ney import KneserNey
from specialm.evaluation.ngrams import Windows
from specialm.training.scoring import Score
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run

Selected = tuple[WindowStore, np.ndarray]  # a store and windows of it


class Corpus:
    """The generic training text of a run, and what is made of it once for all domains."""

    def __init__(self, run: Run):
        self.run = run
        self.windows: Selected = run.generic, np.arange(len(run.generic))

    @cached_property
    def model(self) -> KneserNey:
        """The n-gram model of the generic windows."""
        return KneserNey.of(Windows.of(*self.windows), self.run.prepared.vocabulary.size)

    def text(self, windows: Selected) -> bytes:
        """Return the text of windows, one after another."""
        texts = contamination.window_texts(windows[0], self.run.prepared.vocabulary, windows[1])
        return "".join(texts).encode()

    @cached_property
    def generic(self) -> bytes:
        """The text of the generic windows."""
        return self.text(self.windows)


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
    models = [
        text.corpus.model,
        KneserNey.of(Windows.of(*text.train), text.corpus.run.prepared.vocabulary.size),
    ]

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
    """One line of the table."""

    score: Callable[[Text], dict]
    key: tuple = ()  # what else its figures depend on


BASELINES = {
    "ngram": Baseline(kneser_ney_mixed, (kneser_ney.ORDER,)),
    "lzma": Baseline(lzma),
}


def scores(run: Run, name: str) -> dict[str, tuple[Score, dict]]:
    """{domain: (the score of a baseline on held-out windows, what else it says)}; stages.

    What else: valid_bits_per_byte, served_bytes, seconds, and what the baseline chose.
    """
    corpus = Corpus(run)
    return {domain: _score(run, corpus, name, domain) for domain in run.domains}


def _score(run: Run, corpus: Corpus, name: str, domain: str) -> tuple[Score, dict]:
    part = pipeline.specialist(run, domain)
    text = Text(
        corpus,
        (part.train_store, part.train_indices),
        (part.valid_store, part.valid_indices),
        pipeline.heldout(run, domain),
    )
    inputs = {
        "generic": run.generic.fingerprint,
        "windows": [
            [store.fingerprint, digest(indices)]
            for store, indices in (text.train, text.valid, text.heldout)
        ],
        "key": list(BASELINES[name].key),
    }

    def work(path: Path) -> dict:
        started = time.perf_counter()
        found = BASELINES[name].score(text)
        return {**found, "seconds": time.perf_counter() - started}

    found = dict(run.stages.run(f"baselines/{name}-{domain}", inputs, work).result)
    heldout, valid = (_sums(*windows) for windows in (text.heldout, text.valid))
    score = Score(found.pop("nll"), *heldout)
    valid_score = Score(found.pop("valid_nll"), *valid)
    return score, {"valid_bits_per_byte": valid_score.bits_per_byte, **found}


def _sums(store: WindowStore, indices: np.ndarray) -> tuple[int, int, int]:
    """(tokens, bytes, windows) of windows."""
    return int(store.sizes_N[indices].sum()), int(store.bytes_N[indices].sum()), len(indices)
