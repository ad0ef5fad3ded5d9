"""The baselines of evaluation/baselines.py on the windows of a run, as stages."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm import methods
from specialm.common import code, processes, runtime
from specialm.common.errors import UserError
from specialm.common.stages import digest
from specialm.evaluation import perplexity
from specialm.evaluation.baselines import BASELINES, Corpus, Sizes, Text
from specialm.models import families
from specialm.training import runs
from specialm.training.scoring import Score
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run

AT_ONCE = 4  # a compressor with a dictionary of 64 MB takes 0.7 GB


def rows(run: Run, names: Sequence[str], seed: int, sizes: Sizes | None = None) -> list[dict]:
    """Result rows of baselines on all domains: beside the metrics served_bytes,
    train_flops (0: they have no matrix products) and what was chosen.

    They have the specialist text, so that their phase is that after fine-tuning; no seed changes
    them.
    """
    corpus = Corpus((run.generic, np.arange(len(run.generic))), run.prepared.vocabulary, sizes)
    found: list[dict] = []
    scored, tokens = _scores(run, corpus, names), int(run.generic.sizes_N.sum())
    for name in names:
        scores = {domain: scored[name, domain][0] for domain in run.domains}
        more = {domain: {**scored[name, domain][1], "train_flops": 0} for domain in run.domains}
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


def text_of(run: Run, corpus: Corpus, domain: str) -> Text:
    """What a baseline is given of a run's domain."""
    part = pipeline.specialist(run, domain)
    return Text(
        corpus,
        (part.train_store, part.train_indices),
        (part.valid_store, part.valid_indices),
        pipeline.heldout(run, domain),
    )


def _scores(
    run: Run, corpus: Corpus, names: Sequence[str]
) -> dict[tuple[str, str], tuple[Score, dict]]:
    """{(baseline, domain): its score, what it chose}: stages, of which those that are not there
    yet are computed a few at a time.
    """
    texts = {domain: text_of(run, corpus, domain) for domain in run.domains}
    inputs = {
        (name, domain): _inputs(corpus, name, text)
        for domain, text in texts.items()
        for name in names
    }
    missing = [key for key in inputs if not run.stages.find(_stage(*key), inputs[key])]
    started = missing if processes.is_first() else []  # the others wait for what it finds
    pool = ThreadPoolExecutor(max(1, min(runtime.cores(), AT_ONCE)))
    try:
        found = {
            (name, domain): pool.submit(_timed, BASELINES[name].score, texts[domain])
            for name, domain in started
        }
        results = {
            key: run.stages.run(_stage(*key), inputs[key], partial(_result, found, key))
            for key in inputs
        }
    finally:
        pool.shutdown(cancel_futures=True)
    return {
        (name, domain): _read(texts[domain], dict(stage.result))
        for (name, domain), stage in results.items()
    }


def _stage(name: str, domain: str) -> str:
    return f"baselines/{name}-{domain}"


def _inputs(corpus: Corpus, name: str, text: Text) -> dict:
    """What a stage's figures depend on."""
    return {
        "generic": corpus.windows[0].fingerprint,
        "windows": [
            [store.fingerprint, digest(indices)]
            for store, indices in (text.train, text.valid, text.heldout)
        ],
        "key": list(BASELINES[name].key(corpus.sizes)),
    }


def _timed(score: Callable[[Text], dict], text: Text) -> dict:
    started = time.perf_counter()
    return {**score(text), "seconds": time.perf_counter() - started}


def _result(computed: Mapping[tuple, Future], key: tuple, _: Path) -> dict:
    """A stage's work: waiting for what was started before."""
    return computed[key].result()


def _read(text: Text, found: dict) -> tuple[Score, dict]:
    """A stage's result as (the score, what else it says)."""
    store, indices = text.heldout
    tokens, count = int(store.sizes_N[indices].sum()), int(store.bytes_N[indices].sum())
    return Score(found.pop("nll"), tokens, count, len(indices)), found
