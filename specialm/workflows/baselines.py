"""The baselines of evaluation/baselines.py on the windows of a run, as stages."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from specialm.common.stages import digest
from specialm.evaluation import perplexity
from specialm.evaluation.baselines import BASELINES, Corpus, Text
from specialm.training.scoring import Score
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run


def rows(run: Run, names: Sequence[str], seed: int) -> list[dict]:
    """Result rows of baselines on all domains: beside the metrics served_bytes,
    train_flops (0: they have no matrix products) and what was chosen.

    They have the specialist text, so that their phase is that after fine-tuning; no seed changes
    them.
    """
    corpus = Corpus((run.generic, np.arange(len(run.generic))), run.prepared.vocabulary)
    found: list[dict] = []
    for name in names:
        scored = {domain: _score(run, corpus, name, domain) for domain in run.domains}
        tokens = int(run.generic.sizes_N.sum())
        scores = {domain: score for domain, (score, _) in scored.items()}
        more = {domain: {**more, "train_flops": 0} for domain, (_, more) in scored.items()}
        found += [
            row | perplexity.beside(more, row["domain"])
            for row in perplexity.rows(name, "finetuned", seed, tokens, scores)
        ]
    return found


def _score(run: Run, corpus: Corpus, name: str, domain: str) -> tuple[Score, dict]:
    part, baseline = pipeline.specialist(run, domain), BASELINES[name]
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
        "key": list(baseline.key),
    }

    def work(path: Path) -> dict:
        started = time.perf_counter()
        found = baseline.score(text)
        return {**found, "seconds": time.perf_counter() - started}

    found = dict(run.stages.run(f"baselines/{name}-{domain}", inputs, work).result)
    store, indices = text.heldout
    tokens, count = int(store.sizes_N[indices].sum()), int(store.bytes_N[indices].sum())
    return Score(found.pop("nll"), tokens, count, len(indices)), found
