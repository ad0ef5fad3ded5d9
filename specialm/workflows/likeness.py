"""How like a domain's specialist text the generic windows are, as a stage."""

from pathlib import Path

import numpy as np

from specialm.common.progress import bar
from specialm.common.stages import digest
from specialm.data import likeness
from specialm.data.likeness import Likeness
from specialm.data.shares import source_of
from specialm.evaluation.contamination import window_texts
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run

VERSION = 1  # of the features
FILE = "likeness.npz"


def of(run: Run, domain: str) -> Likeness:
    """The importance weights of all generic windows for the domain's specialist training set."""
    generic, part = run.generic, pipeline.specialist(run, domain)
    inputs = {
        "generic": generic.fingerprint,
        "store": part.train_store.fingerprint,
        "windows": digest(part.train_indices),
        "features": [VERSION, likeness.BUCKETS],
    }

    def work(path: Path) -> dict:
        every, vocabulary = np.arange(len(generic)), run.prepared.vocabulary

        def texts():
            for text in window_texts(generic, vocabulary, every):
                yield text
                progress.update(1)

        special_J = likeness.counts(window_texts(part.train_store, vocabulary, part.train_indices))
        with bar(2 * len(generic), f"n-grams, {domain}", "window") as progress:
            ratio_J = likeness.log_ratio(special_J, likeness.counts(texts()))
            log_weight_N, ngrams_N = likeness.log_weights(texts(), ratio_J)
        names = [source_of(name) for name, _ in generic.documents]
        sources = sorted(set(names))
        number = {name: i for i, name in enumerate(sources)}
        source_N = np.array([number[name] for name in names], np.int32)[generic.document_N]
        found = Likeness(log_weight_N, ngrams_N, source_N, tuple(sources))
        found.save(path / FILE)
        return {"by_source": dict(zip(sources, found.by_source.tolist(), strict=True))}

    return Likeness.load(run.stages.run(f"likeness/{domain}", inputs, work).path / FILE)
