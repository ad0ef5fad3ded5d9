"""Evaluation of one model on held-out text: metrics of every set, contamination check, cost.

How these are computed: docs/evaluation.md.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from specialm.common.stages import digest
from specialm.data.store import WindowStore
from specialm.data.windows import changed_share
from specialm.evaluation import contamination, cost, perplexity, positions
from specialm.training import runs, scoring
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run

THRESHOLD, SHINGLE = 0.8, 5  # Jaccard similarity of a near-duplicate, words of a shingle
GENERIC = "generic"
SOURCES = (GENERIC, "specialist")  # of training windows

Windows = tuple[WindowStore, np.ndarray]  # a store and the windows used of it


def evaluate(run: Run, base: Path, sets: list[str], key: str, label: str) -> dict:
    """Scores the dense model in `base` on held-out documents.

    Args:
      run: the prepared data and settings.
      base: the folder of the model.
      sets: domains, or `generic`.
      key: identifies the model's content.
      label: part of the stages' names.

    Returns:
      JSON-able: `scores` {set: nll_per_token (nats), perplexity, bits_per_byte, tokens, bytes,
      windows, the same of `clean` windows where some are contaminated, and the share of documents
      `changed_by_vocabulary` where there are any}, `macro` over the
      domains (None without any), `contamination` {set: see `check`} (None without
      `evaluate.contamination_check`), `cost`.
    """
    scores = pipeline.score_heldout(run, base, sets, key, label)
    found = check(run, sets) if run.config.evaluate.contamination_check else None
    table = {name: _metrics(score) for name, score in scores.items()}
    for name, clean in _clean_scores(run, base, key, label, scores, found or {}).items():
        table[name]["clean"] = _metrics(clean) if clean else None
    for name, share in _changed_shares(run, sets).items():
        table[name]["changed_by_vocabulary"] = share
    record = runs.read_record(base)
    return {
        "scores": table,
        "macro": _macro(record, scores),
        "contamination": found,
        "cost": spent(record["ledger"]),
    }


def sets(run: Run) -> list[str]:
    """The held-out sets of a run: the generic text, if it is there, and its domains."""
    generic = [GENERIC] if "heldout" in run.prepared.generic_splits else []
    return [*generic, *run.domains]


def no_generic(run: Run) -> list[str]:
    """A line for people if there is no generic text to see forgetting by."""
    if "heldout" in run.prepared.generic_splits:
        return []
    return [
        "forgetting was not measured: there is no generic held-out text here; "
        "--generic=corpora:generic, or any other source or path of text, gives one"
    ]


def scores(run: Run, base: Path, key: str, sets: list[str]) -> dict[str, dict]:
    """{set: its figures under the dense model in `base`}, as `scores` of `evaluate`."""
    found = pipeline.score_heldout(run, base, sets, key, base.resolve().name)
    return {name: _metrics(score) for name, score in found.items()}


def by_position(run: Run, base: Path, sets: list[str]) -> dict[str, list[positions.Positions]]:
    """{set: losses by position in its held-out windows} of the dense model in `base`."""
    model = runs.load(base, run.mesh)
    return {name: positions.by_position(model, *pipeline.heldout(run, name)) for name in sets}


def _changed_shares(run: Run, sets: list[str]) -> dict[str, float]:
    """{set: share of its held-out documents that the vocabulary does not give back}, above 0."""
    counts = {name: pipeline.heldout(run, name)[0].index["counts"] for name in sets}
    shares = {name: changed_share(of, "heldout") for name, of in counts.items()}
    return {name: share for name, share in shares.items() if share}


def _metrics(score: scoring.Score) -> dict:
    return {
        **dataclasses.asdict(score),
        "nll_per_token": score.nll_per_token,
        **{metric.field: metric.of(score) for metric in perplexity.METRICS},
    }


def _macro(record: dict, scores: Mapping[str, scoring.Score]) -> dict | None:
    domains = {name: score for name, score in scores.items() if name != GENERIC}
    if not domains:
        return None
    row = perplexity.rows(record["method"], "heldout", record["seed"], 0, domains)[-1]
    fields = ("nll_per_token", *(metric.field for metric in perplexity.METRICS))
    return {field: row[field] for field in fields}


def _clean_scores(
    run: Run, base: Path, key: str, label: str, scores: dict[str, scoring.Score], found: dict
) -> dict[str, scoring.Score | None]:
    """{set with contaminated windows: score of its other windows, None without any}."""
    contaminated = {name: np.array(of["windows"]) for name, of in found.items() if of["windows"]}
    if not contaminated:
        return {}
    parts = pipeline.score_heldout(
        run, base, list(contaminated), key, f"{label}-contaminated", contaminated
    )
    return {name: _without(scores[name], part) for name, part in parts.items()}


def _without(score: scoring.Score, part: scoring.Score) -> scoring.Score | None:
    """The score of the windows that are not in `part`; None if there are none."""
    left = scoring.Score(
        *(a - b for a, b in zip(dataclasses.astuple(score), dataclasses.astuple(part), strict=True))
    )
    return left if left.windows else None


def check(run: Run, sets: list[str]) -> dict[str, dict]:
    """Looks for near-duplicates of held-out windows among the windows that models are trained on.

    These are all generic windows, of which every method draws, and the domain's own specialist
    ones, training and validation. Cached.

    Returns:
      {set: {"checked", "too_short", "against": {"generic" | "specialist": {"trained", "leaked",
      "covered"}}, "windows"}}: counts of windows (see `contamination.ContaminationReport`), and
      the indices of those that leaked or are covered. Without the generic text its entry is None.
    """
    used = {name: pipeline.heldout(run, name) for name in sets}
    generic = _against_generic(run, used)
    specialist = {
        name: _against_specialist(run, name, of) for name, of in used.items() if name != GENERIC
    }
    return {
        name: _joined(generic and generic[name], specialist.get(name), indices)
        for name, (_, indices) in used.items()
    }


def _against_generic(run: Run, used: dict[str, Windows]) -> dict | None:
    """{set: counts and places} of all sets in one pass over the generic training windows."""
    if "train" not in run.prepared.generic_splits:
        return None
    store = run.prepared.generic
    inputs = {
        "train": store.fingerprint,
        "threshold": THRESHOLD,
        "shingle": SHINGLE,
        "sets": {name: _fingerprint(of) for name, of in used.items()},
    }

    def work(path: Path) -> dict:
        texts = {name: _texts(run, of) for name, of in used.items()}
        every = [text for part in texts.values() for text in part]
        found = _find(run, [(store, np.arange(len(store)))], every, GENERIC)
        ends = np.cumsum([len(part) for part in texts.values()])
        return {
            name: _part(found, texts[name], int(end) - len(texts[name]))
            for name, end in zip(texts, ends, strict=True)
        }

    return run.stages.run(f"contamination/{'-'.join(used)}-generic", inputs, work).result


def _against_specialist(run: Run, domain: str, used: Windows) -> dict:
    part = pipeline.specialist(run, domain)
    trained = [(part.train_store, part.train_indices), (part.valid_store, part.valid_indices)]
    inputs = {
        "threshold": THRESHOLD,
        "shingle": SHINGLE,
        "sets": [_fingerprint(windows) for windows in [used, *trained]],
    }

    def work(path: Path) -> dict:
        texts = _texts(run, used)
        return _part(_find(run, trained, texts, domain), texts, 0)

    return run.stages.run(f"contamination/{domain}-specialist", inputs, work).result


def _fingerprint(windows: Windows) -> list[str]:
    store, indices = windows
    return [store.fingerprint, digest(indices)]


def _texts(run: Run, windows: Windows) -> list[str]:
    store, indices = windows
    return list(contamination.window_texts(store, run.prepared.vocabulary, indices))


def _find(
    run: Run, trained: Sequence[Windows], texts: list[str], source: str
) -> contamination.ContaminationReport:
    train_texts = (
        text
        for store, indices in trained
        for text in contamination.window_texts(store, run.prepared.vocabulary, indices)
    )
    return contamination.find_contamination(
        train_texts,
        texts,
        THRESHOLD,
        SHINGLE,
        total=sum(len(indices) for _, indices in trained),
        title=f"contamination check against {source}",
    )


def _part(found: contamination.ContaminationReport, texts: list[str], start: int) -> dict:
    """Counts, and places among these texts, which begin at `start` in a report."""
    stop = start + len(texts)
    leaked = [i - start for i, *_ in found.leaked if start <= i < stop]
    covered = [i - start for i, _ in found.covered if start <= i < stop]
    return {
        "trained": found.trained,
        "leaked": len(leaked),
        "covered": len(covered),
        "too_short": sum(len(contamination.words(text)) < SHINGLE for text in texts),
        "places": sorted({*leaked, *covered}),
    }


def _joined(generic: dict | None, specialist: dict | None, indices: np.ndarray) -> dict:
    against = dict(zip(SOURCES, (generic, specialist), strict=True))
    checked = [found for found in against.values() if found]
    places = sorted({place for found in checked for place in found["places"]})
    return {
        "checked": len(indices),
        "too_short": checked[0]["too_short"] if checked else 0,
        "against": {
            name: found and {key: found[key] for key in ("trained", "leaked", "covered")}
            for name, found in against.items()
        },
        "windows": sorted(int(indices[place]) for place in places),
    }


def spent(ledger: list[dict]) -> dict:
    """FLOPs, tokens, device seconds and GPU hours: generic cost, and that of specialisation."""
    return {
        "flops_per_second": cost.UTILISATION * cost.A100_FLOPS,
        "imported": [entry["model"] for entry in ledger if entry["phase"] == "imported"],
        **{
            name: {**dataclasses.asdict(part), "gpu_hours": cost.gpu_hours(part.flops)}
            for name, part in zip(("generic", "specialisation"), cost.split(ledger), strict=True)
        },
    }


def table(report: dict, before: dict | None = None) -> str:
    """What `evaluate` found, as text.

    Args:
      before: `scores` of the model before it was fine-tuned.
    """
    rows = []
    for name, score in report["scores"].items():
        if before:
            rows += [(f"{name} before", before[name]), (f"{name} after", score)]
        else:
            rows.append((name, score))
        if "clean" in score:
            rows.append(("  clean windows", score["clean"]))
    if sum(name != GENERIC for name in report["scores"]) > 1:
        rows.append(("macro", report["macro"]))
    width = max(16, *(len(name) for name, _ in rows))
    headings = "".join(f" {metric.heading:>10}" for metric in perplexity.METRICS)
    lines = [f"{'set':{width}}{headings} {'tokens':>10}"]
    lines += [_score_line(f"{name:{width}}", score) for name, score in rows]
    lines += [
        f"{name}: {score['changed_by_vocabulary']:.1%} of the documents are changed by the "
        "vocabulary: bits are of the text as it reads it, bytes of the text as it is"
        for name, score in report["scores"].items()
        if score.get("changed_by_vocabulary")
    ]
    check_lines = _contamination_lines(report["contamination"])
    return "\n".join([*lines, "", *check_lines, "", *_cost_lines(report["cost"])])


def _score_line(name: str, score: dict | None) -> str:
    if score is None:
        return f"{name} {'no window left':>21}"
    values = "".join(
        f" {score[metric.field]:10.{2 if metric.decimals is None else metric.decimals}f}"
        for metric in perplexity.METRICS
    )
    tokens = f"{score['tokens']:,}" if "tokens" in score else ""
    return f"{name}{values} {tokens:>10}".rstrip()


def _contamination_lines(found: dict | None) -> list[str]:
    if found is None:
        return ["contamination check: off (evaluate.contamination_check)"]
    lines = ["contamination check: held-out windows that are near-duplicates of a training window"]
    lines += [_contamination_line(name, of) for name, of in found.items()]
    if any(of["against"][GENERIC] is None for of in found.values()):
        lines.append(
            "  the generic text that the model was trained on is not here: not checked against it"
        )
    return lines


def _contamination_line(name: str, found: dict) -> str:
    counts = [
        f"{against['leaked']} of {found['checked']:,} ({against['covered']} covered) against "
        f"{against['trained']:,} {source} windows"
        for source, against in found["against"].items()
        if against
    ]
    too_short = f"; {found['too_short']} too short" if found["too_short"] else ""
    return f"  {name}: {'; '.join(counts) or 'nothing to check against'}{too_short}"


def _cost_lines(spent: dict) -> list[str]:
    lines = [f"{'cost':16} {'FLOPs':>10} {'tokens':>12} {'device s':>10} {'GPU h':>10}"]
    for name in ("generic", "specialisation"):
        part = spent[name]
        lines.append(
            f"{name:16} {part['flops']:10.2e} {part['tokens']:12,.0f} "
            f"{part['device_seconds']:10,.1f} {part['gpu_hours']:10.2g}"
        )
    lines += [f"not counted: the pretraining of {name}" for name in spent.get("imported", ())]
    return [*lines, f"GPU hours at {spent['flops_per_second']:.3g} FLOP/s"]
