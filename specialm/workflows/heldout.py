"""What a model is worth on text it has not seen: perplexity and bits per byte of every set, their
macro average, the leak check and what the model cost.

How these are computed: docs/evaluation.md.
"""

import dataclasses
from pathlib import Path

import numpy as np

from specialm.common.stages import digest
from specialm.evaluation import contamination, cost, perplexity
from specialm.training import runs, scoring
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run

THRESHOLD, SHINGLE = 0.8, 5  # Jaccard similarity of a near-duplicate, words of a shingle


def evaluate(run: Run, base: Path, sets: list[str], key: str, label: str) -> dict:
    """Scores the dense model in `base` on held-out documents.

    Args:
      sets: domains, or `generic`.
      key: identifies the model's content.
      label: a part of the stages' names.

    Returns:
      JSON-able: `scores` {set: nll_per_token (nats), perplexity, bits_per_byte, tokens, bytes,
      windows, and the same of `clean` windows where some leaked}, `macro` over the domains (None
      without any), `leaks` {set: see `check`} (None without
      `evaluate.contamination_check`), `cost`.
    """
    scores = pipeline.score_heldout(run, base, sets, key, label)
    leaked = check(run, sets) if run.config.evaluate.contamination_check else None
    dirty = {
        name: np.array(found["windows"])
        for name, found in (leaked or {}).items()
        if found["windows"]
    }
    wrong = (
        pipeline.score_heldout(run, base, list(dirty), key, f"{label}-leaked", dirty)
        if dirty
        else {}
    )
    record = runs.read_record(base)
    table = {name: _figures(score) for name, score in scores.items()}
    for name, score in wrong.items():
        clean = _without(scores[name], score)
        table[name]["clean"] = _figures(clean) if clean else None
    domains = {name: score for name, score in scores.items() if name != "generic"}
    macro = (
        perplexity.rows(record["method"], "heldout", record["seed"], 0, domains)[-1]
        if domains
        else None
    )
    return {
        "scores": table,
        "macro": macro
        and {name: macro[name] for name in ("nll_per_token", "perplexity", "bits_per_byte")},
        "leaks": leaked,
        "cost": spent(record["ledger"]),
    }


def _figures(score: scoring.Score) -> dict:
    return {
        **dataclasses.asdict(score),
        "nll_per_token": score.nll_per_token,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
    }


def _without(score: scoring.Score, part: scoring.Score) -> scoring.Score | None:
    """The score of the windows that are not in `part`; None if there are none."""
    left = scoring.Score(
        *(a - b for a, b in zip(dataclasses.astuple(score), dataclasses.astuple(part), strict=True))
    )
    return left if left.windows else None


def check(run: Run, sets: list[str]) -> dict[str, dict]:
    """Looks for near-duplicates of held-out windows among the windows that models are trained on:
    all generic ones, of which every method draws, and the domain's own specialist ones, training
    and validation. Cached.

    Returns:
      {set: {"checked", "too_short", "against": {"generic" | "specialist": {"trained", "leaked",
      "covered"}}, "windows"}}: counts of windows (see `contamination.LeakReport`), and the
      indices of those that leaked or are covered. Without the generic text its entry is None.
    """
    used = {name: pipeline.heldout(run, name) for name in sets}
    generic, specialist = (
        _against_generic(run, used),
        {
            name: _against_specialist(run, name, *of)
            for name, of in used.items()
            if name != "generic"
        },
    )
    return {
        name: _joined(generic and generic[name], specialist.get(name), indices)
        for name, (_, indices) in used.items()
    }


def _against_generic(run: Run, used: dict) -> dict | None:
    """{set: counts and places} of all sets in one pass over the generic training windows."""
    store = run.prepared.generic
    if store is None:
        return None
    inputs = {
        "train": store.fingerprint,
        "threshold": THRESHOLD,
        "shingle": SHINGLE,
        "sets": {name: [of.fingerprint, digest(indices)] for name, (of, indices) in used.items()},
    }

    def work(path: Path) -> dict:
        texts = {name: _texts(run, *of) for name, of in used.items()}
        found = _leaks(
            run,
            [(store, np.arange(len(store)))],
            [text for part in texts.values() for text in part],
            "generic",
        )
        ends = np.cumsum([len(part) for part in texts.values()])
        return {
            name: _part(found, texts[name], int(end) - len(texts[name]))
            for name, end in zip(texts, ends, strict=True)
        }

    return run.stages.run(f"leaks/{'-'.join(used)}-generic", inputs, work).result


def _against_specialist(run: Run, domain: str, heldout, indices: np.ndarray) -> dict:
    part = pipeline.specialist(run, domain)
    trained = [(part.train_store, part.train_indices), (part.valid_store, part.valid_indices)]
    inputs = {
        "threshold": THRESHOLD,
        "shingle": SHINGLE,
        "sets": [
            [store.fingerprint, digest(used)] for store, used in [(heldout, indices), *trained]
        ],
    }

    def work(path: Path) -> dict:
        texts = _texts(run, heldout, indices)
        return _part(_leaks(run, trained, texts, domain), texts, 0)

    return run.stages.run(f"leaks/{domain}-specialist", inputs, work).result


def _texts(run: Run, store, indices: np.ndarray) -> list[str]:
    return list(contamination.window_texts(store, run.prepared.vocabulary, indices))


def _leaks(run: Run, trained: list, texts: list[str], name: str) -> contamination.LeakReport:
    windows = (
        text
        for store, indices in trained
        for text in contamination.window_texts(store, run.prepared.vocabulary, indices)
    )
    return contamination.leaks(
        windows,
        texts,
        THRESHOLD,
        SHINGLE,
        total=sum(len(indices) for _, indices in trained),
        title=f"leak check against {name}",
    )


def _part(found: contamination.LeakReport, texts: list[str], start: int) -> dict:
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
    against = {"generic": generic, "specialist": specialist}
    checks = [found for found in against.values() if found]
    places = sorted({place for found in checks for place in found["places"]})
    return {
        "checked": len(indices),
        "too_short": checks[0]["too_short"] if checks else 0,
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
        **{
            name: {**dataclasses.asdict(part), "gpu_hours": cost.gpu_hours(part.flops)}
            for name, part in zip(("generic", "specialisation"), cost.split(ledger), strict=True)
        },
    }


def table(report: dict) -> str:
    """What `evaluate` found, as text."""
    lines = [f"{'set':16} {'perplexity':>10} {'bits/byte':>10} {'tokens':>10}"]
    for name, score in report["scores"].items():
        lines.append(_line(name, score))
        if "clean" in score:
            lines.append(_line("  without leaks", score["clean"]))
    if sum(name != "generic" for name in report["scores"]) > 1:
        lines.append(_line("macro", report["macro"]))
    return "\n".join([*lines, "", *_leak_lines(report["leaks"]), "", *_cost_lines(report["cost"])])


def _line(name: str, score: dict | None) -> str:
    if score is None:
        return f"{name:16} {'no window left':>21}"
    tokens = f"{score['tokens']:,}" if "tokens" in score else ""
    return (
        f"{name:16} {score['perplexity']:10.2f} {score['bits_per_byte']:10.3f} {tokens:>10}"
    ).rstrip()


def _leak_lines(found: dict | None) -> list[str]:
    if found is None:
        return ["leak check: off (evaluate.contamination_check)"]
    lines = ["leak check: held-out windows that are near-duplicates of a training window"]
    for name, of in found.items():
        counts = [
            f"{against['leaked']} of {of['checked']:,} ({against['covered']} covered) against "
            f"{against['trained']:,} {what} windows"
            for what, against in of["against"].items()
            if against
        ]
        lines.append(
            f"  {name}: {'; '.join(counts) or 'nothing to check against'}"
            + (f"; {of['too_short']} too short" if of["too_short"] else "")
        )
    if any(of["against"]["generic"] is None for of in found.values()):
        lines.append(
            "  the generic text that the model was trained on is not here: not checked against it"
        )
    return lines


def _cost_lines(spent: dict) -> list[str]:
    lines = [f"{'cost':16} {'FLOPs':>10} {'tokens':>12} {'device s':>10} {'GPU h':>10}"]
    for name in ("generic", "specialisation"):
        part = spent[name]
        lines.append(
            f"{name:16} {part['flops']:10.2e} {part['tokens']:12,.0f} "
            f"{part['device_seconds']:10,.1f} {part['gpu_hours']:10.2g}"
        )
    return [*lines, f"GPU hours at {spent['flops_per_second']:.3g} FLOP/s"]
