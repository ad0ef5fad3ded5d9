"""The tables of a study's record: models, contamination check, histograms of clusters.

Every function returns a `Table`, or None where the record has nothing for it.
"""

from collections.abc import Callable

from specialm.reports.summary import GENERIC, count, label, number
from specialm.reports.tables import DASH, Table, or_dash, table_of
from specialm.reports.words import percent

MODEL_COLUMNS = {
    "pretrain_params": "Parameters in pretraining",
    "params": "Parameters at inference",
    "flops_per_token": "FLOPs per token",
    "tokens_per_parameter": "Tokens per parameter",
}


def parameters(record: dict) -> Table | None:
    """Parameters in pretraining and at inference, FLOPs per training token."""
    models = record.get("models") or {}
    keys = [
        key for key in MODEL_COLUMNS if any(facts.get(key) is not None for facts in models.values())
    ]
    rows = [
        [label(name), *(or_dash(facts.get(key), count) for key in keys)]
        for name, facts in models.items()
    ]
    note = "FLOPs of training on one token, forward and backward; tokens at the largest budget."
    return table_of("Sizes of the models", note, ["", *(MODEL_COLUMNS[key] for key in keys)], rows)


def contamination_counts(record: dict) -> dict:
    """{domain: counts of the contamination check}; early records call them "leaks"."""
    return record.get("contamination") or record.get("leaks") or {}


def contamination(record: dict) -> Table | None:
    """Held-out windows that are near-duplicates of windows that were trained on."""
    rows = [
        [f"{name}, against {source} text", *_counts(found["checked"], against)]
        for name, found in contamination_counts(record).items()
        for source, against in found["against"].items()
        if against
    ]
    return table_of(
        "Contamination check",
        "Near-duplicates: at least 0.8 of the runs of five words of both windows are shared; "
        "covered: that share of a held-out window's runs occurs in training windows taken "
        "together.",
        ["Held-out windows of", "Checked", "Trained on", "Near-duplicates", "Covered"],
        rows,
    )


def _counts(checked: int, against: dict) -> list[str]:
    counts = (checked, against["trained"], against["leaked"], against["covered"])
    return [f"{n:,}" for n in counts]


def top_fractions(record: dict) -> Table | None:
    """Share of a domain's windows in its most frequent cluster, by the number of clusters."""
    return _histograms(
        record,
        "top_fraction",
        percent,
        "Share of the most frequent cluster",
        "How much of each domain's text lies in its most frequent cluster, by the "
        "number of clusters.",
    )


def entropies(record: dict) -> Table | None:
    """Entropy of each domain's cluster histogram, by the number of clusters."""
    return _histograms(
        record,
        "entropy",
        lambda value: number(value, 2),
        "Entropy in nats",
        "Of each domain's histogram over the clusters: a low one says the domain "
        "is found in few clusters, where clusters help most.",
    )


def _histograms(
    record: dict, field: str, show: Callable[[float], str], title: str, note: str
) -> Table | None:
    histograms = record.get("histograms") or {}
    ks = sorted(histograms, key=float)
    names = dict.fromkeys(name for k in ks for name in histograms[k])
    rows = [
        [name, *(or_dash((histograms[k].get(name) or {}).get(field), show) for k in ks)]
        for name in sorted(names, key=lambda name: name == GENERIC)
    ]
    rows = [row for row in rows if set(row[1:]) != {DASH}]
    return table_of(title, note, ["Domain", *(f"{k} clusters" for k in ks)], rows)
