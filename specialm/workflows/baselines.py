"""The baselines of evaluation/baselines.py on the windows of a run, as stages."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm import methods
from specialm.common import code
from specialm.common.errors import UserError
from specialm.common.stages import digest
from specialm.evaluation import perplexity
from specialm.evaluation.baselines import BASELINES, Corpus, Sizes, Text
from specialm.models import families
from specialm.training import runs
from specialm.training.scoring import Score
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run


def rows(run: Run, names: Sequence[str], seed: int, sizes: Sizes | None = None) -> list[dict]:
    """Result rows of baselines on all domains: beside the metrics served_bytes,
    train_flops (0: they have no matrix products) and what was chosen.

    They have the specialist text, so that their phase is that after fine-tuning; no seed changes
    them.
    """
    corpus = Corpus((run.generic, np.arange(len(run.generic))), run.prepared.vocabulary, sizes)
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


def baselines(
    config: ConfigDict, workdir: Path, order: int, num_bytes: int, model: Path | None
) -> list[dict]:
    """The rows of `config.baselines` on the config's domains.

    Args:
      order: of n-gram models.
      num_bytes: of theirs, at most; 0 for any.
      model: a run folder; with it `num_bytes` is what its parameters take.

    Raises:
      UserError: no baseline is named; the text cannot be prepared.
    """
    from specialm.workflows import demo

    if not config.baselines:
        raise UserError("config.baselines is empty: name at least one.")
    demo.fetch(config)
    run = pipeline.open_run(config, workdir, pipeline.domains_of(config), used=(methods.BASE,))
    sizes = Sizes(order, parameter_bytes(run, model) if model else num_bytes)
    found = rows(run, config.baselines, config.seed, sizes)
    return [row | code.made_by(run.stages.done) for row in found]


def parameter_bytes(run: Run, path: Path) -> int:
    """What the parameters of a dense model take as float32."""
    return 4 * families.num_params(runs.load(path, run.mesh).config)


def table(rows: Sequence[dict]) -> str:
    """For a terminal: a line for each baseline and domain."""
    lines = [
        f"{'baseline':10} {'domain':20} {'perplexity':>10} {'bits/byte':>9} {'bytes served':>13}"
    ]
    return "\n".join(
        lines
        + [
            f"{row['method']:10} {row['domain']:20} {row['perplexity']:10,.2f} "
            f"{row['bits_per_byte']:9.3f} {round(row['served_bytes']):13,}"
            for row in rows
        ]
    )


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
        "key": list(baseline.key(corpus.sizes)),
    }

    def work(path: Path) -> dict:
        started = time.perf_counter()
        found = baseline.score(text)
        return {**found, "seconds": time.perf_counter() - started}

    found = dict(run.stages.run(f"baselines/{name}-{domain}", inputs, work).result)
    store, indices = text.heldout
    tokens, count = int(store.sizes_N[indices].sum()), int(store.bytes_N[indices].sum())
    return Score(found.pop("nll"), tokens, count, len(indices)), found
