"""The tables of a demo: each function gives a table of a run, None where it has nothing for it.

A new one is a function here and its name in `demo_page.SECTIONS`.
"""

from collections.abc import Sequence

from specialm.evaluation import perplexity
from specialm.reports.demo_run import DemoRun, domain_name
from specialm.reports.parts import Choice
from specialm.reports.summary import (
    BASE,
    MACRO,
    PHASES,
    Summary,
    cell_of,
    count,
    label,
    number,
    signed_percent,
    spread,
)
from specialm.reports.tables import DASH, Best, Share, Table, facts, table_of
from specialm.reports.words import duration, percent, plain, plural

WEIGHTS = (
    ("effective_sample_size", "Effective sample, windows", count),
    ("effective_fraction", "Share of the generic corpus", percent),
    ("planned_windows", "Planned draws, windows", count),
    ("mean_repetitions", "Repetitions, mean", number),
    ("max_repetitions", "Repetitions, most", number),
    ("expected_repetitions", "Repetitions, mean over draws", number),
    ("share_above_budget", "Draws above the budget", percent),
    ("moved_share", "Draws moved by the cap", percent),
    ("entropy", "Entropy of the domain, nats", number),
    ("top_fraction", "Domain in its top cluster", percent),
)
DRAWS = ("effective_fraction", "max_repetitions", "expected_repetitions")  # fields of rows
MODELS = {
    "params": ("Parameters", count),
    "pretrain_params": ("Parameters in pretraining", count),
    "flops_per_token": ("FLOPs per token", count),
    "tokens": ("Training tokens", count),
    "tokens_per_parameter": ("Tokens per parameter", number),
}
SIZES = (
    ("documents", "Documents", count),
    ("windows", "Windows", count),
    ("tokens", "Tokens", count),
    ("bytes", "Megabytes", lambda value: number(value / 1e6)),
)


def results(run: DemoRun) -> Choice | None:
    """A table for each metric: methods down, domains across, before and after fine-tuning."""
    if not run.summary.methods:
        return None
    tables = {metric.field: _of_metric(run.summary, metric) for metric in perplexity.METRICS}
    return Choice(
        "unit", [(name, table) for name, table in tables.items() if table], _short_names()
    )


def _short_names() -> dict[str, str]:
    return {metric.field: metric.label for metric in perplexity.METRICS}


def _of_metric(summary: Summary, metric: perplexity.Metric) -> Table | None:
    rows: list[list[str]] = []
    for phase in summary.phases:
        group = [_result_row(summary, method, phase, metric) for method in summary.methods]
        group = [row for row in group if set(row[1:]) != {DASH}]
        rows += [[PHASES.get(phase, phase)], *group] if group else []
    over = f"Mean ± sample standard deviation over {len(summary.seeds)} seeds. "
    note = over if len(summary.seeds) > 1 else ""
    note += "Lower is better; the lowest of a column is bold."
    if MACRO in summary.columns:
        note += " Macro: exp of the mean over domains of the mean loss per token."
    title = f"{metric.label[0].upper()}{metric.label[1:]} on held-out documents"
    return table_of(title, note, ["", *map(domain_name, summary.columns)], rows)


def _result_row(summary: Summary, method: str, phase: str, metric: perplexity.Metric) -> list[str]:
    texts = [label(method)]
    for domain in summary.columns:
        value = summary.cell(method, domain, phase, metric.field)
        text = spread(value, metric.decimals) if value else DASH
        if value and value.seeds < len(summary.seeds):
            text += f" ({plural(value.seeds, 'seed')})"
        lowest = summary.lowest(domain, phase, metric.field) == method
        texts.append(Best(text) if lowest else text)
    return texts


def changes(run: DemoRun) -> Table | None:
    """Relative difference from the base method, by domain and phase."""
    summary, rows = run.summary, []
    for phase in summary.phases:
        group = [_change_row(summary, m, phase) for m in summary.methods if m != BASE]
        group = [row for row in group if set(row[1:]) != {DASH}]
        rows += [[PHASES.get(phase, phase)], *group] if group else []
    seeds = len(summary.seeds) > 1
    paired = ", paired by seed, mean ± sample standard deviation" if seeds else ""
    return table_of(
        f"Change of perplexity against {label(BASE)}",
        f"Below zero is better{paired}.",
        ["", *map(domain_name, summary.columns)],
        rows,
    )


def _change_row(summary: Summary, method: str, phase: str) -> list[str]:
    changes = [summary.difference(method, domain, phase) for domain in summary.columns]
    return [label(method), *(signed_percent(cell_of(c)) if c else DASH for c in changes)]


def weights(run: DemoRun) -> Table | None:
    """Facts on each domain's weights."""
    return facts(
        "Importance weights",
        "Every window of text belongs to a cluster. A cluster's weight is its share of the domain "
        "divided by its share of the generic corpus; importance sampling draws generic windows by "
        "these weights. The effective sample is how many equally weighted windows the draw is "
        "worth; repetitions say how often a window is seen in the planned training.",
        "Domain",
        WEIGHTS,
        list(run.weights.items()),
    )


def draws(run: DemoRun) -> Table | None:
    """How uneven the draws of each method were, mean over domains and seeds."""
    columns = [(name, title, show) for name, title, show in WEIGHTS if name in DRAWS]
    found = {
        method: {
            name: cell.mean
            for name in DRAWS
            if (cell := run.summary.cell(method, MACRO, "pretrained", name))
        }
        for method in run.summary.methods
    }
    note = (
        "Mean over domains and seeds. A control of importance sampling must repeat as much as it "
        "does, that is, have its effective sample."
    )
    rows = [(label(method), of) for method, of in found.items() if of]
    return facts("Draws of the methods", note, "Method", columns, rows)


def models(run: DemoRun) -> Table | None:
    """Size and cost of each model; unknown keys are shown as they are."""
    found = run.record.get("models") or {}
    named = dict.fromkeys(key for of in found.values() for key in of)
    keys = [k for k in MODELS if k in named] + [k for k in named if k not in MODELS]
    columns = [(k, *MODELS.get(k, (k.replace("_", " "), plain))) for k in keys]
    rows = [(label(name), of) for name, of in found.items()]
    note = "FLOPs of training on one token, forward and backward."
    return facts("Sizes of the models", note, "Model", columns, rows)


def windows(run: DemoRun) -> Table | None:
    """Windows, tokens and bytes of the generic corpus and of each domain's splits."""
    data = run.record.get("data") or {}
    rows = [("generic", data["generic"])] if data.get("generic") else []
    for domain, splits in (data.get("domains") or {}).items():
        rows += [(f"{domain}, {split}", of) for split, of in splits.items()]
    note = "What was trained, validated and tested on."
    return facts("Windows of text", note, "Set", SIZES, rows)


def sources(run: DemoRun) -> Table | None:
    """Each source's share of the generic text that is trained on and that is held out."""
    columns = (("train", "Training", percent), ("heldout", "Held out", percent))
    found = (run.record.get("data") or {}).get("generic_sources") or ()
    rows = [(str(row.get("source", DASH)), row) for row in found]
    note = "Shares of the bytes; held-out text that represents the corpus has the same ones."
    return facts("Generic text by source", note, "Source", columns, rows)


def corpora(run: DemoRun) -> Table | None:
    """The corpora with their licences."""
    columns = (("role", "Role", plain), SIZES[0], SIZES[3], ("licence", "Licence", plain))
    rows = [(str(c.get("name", DASH)), c) for c in run.record.get("corpora") or ()]
    return facts("Corpora", "Public text that was downloaded.", "Corpus", columns, rows)


Stages = Sequence[tuple[str, dict]]  # (title, stage)


def stages(run: DemoRun) -> Table | None:
    """The time of the stages; those whose titles share the part before a slash stand together."""
    groups: dict[str, list[tuple[str, dict]]] = {}
    for title, stage in _stages(run):
        groups.setdefault(title.split("/")[0], []).append((title, stage))
    times = {group: _seconds(members) for group, members in groups.items()}
    longest = max(times.values(), default=0) or 1.0
    rows = [
        [
            group if len(members) > 1 else members[0][0],
            _detail(members),
            Share(duration(times[group]), times[group] / longest),
            _reused(members),
        ]
        for group, members in groups.items()
    ]
    rows += [["Total", "", duration(sum(times.values())), ""]] if rows else []
    header = ["Stage", "", "Time", "Reused"]
    return table_of("Time", _stages_note(run), header, rows, left=frozenset({0, 1, 3}))


def all_stages(run: DemoRun) -> Table | None:
    """Every stage by itself, where `stages` takes some together."""
    found = _stages(run)
    if len({title.split("/")[0] for title, _ in found}) == len(found):
        return None
    columns = (
        ("seconds", "Time", duration),
        ("reused", "Reused", lambda yes: "yes" * bool(yes)),
        ("detail", "Detail", plain),
    )
    rows = [(title, {**stage, "detail": stage.get("detail") or None}) for title, stage in found]
    note = "Each with the time that it took when it was finished."
    return facts(f"All {len(found)} stages", note, "Stage", columns, rows, folded=True)


def _stages(run: DemoRun) -> Stages:
    return [
        (str(stage.get("title") or stage.get("name") or DASH), stage)
        for stage in run.record.get("stages") or ()
    ]


def _detail(members: Stages) -> str:
    return plural(len(members), "stage") if len(members) > 1 else members[0][1].get("detail") or ""


def _reused(members: Stages) -> str:
    reused = sum(bool(stage.get("reused")) for _, stage in members)
    return "" if not reused else "yes" if reused == len(members) else f"{reused} of {len(members)}"


def _stages_note(run: DemoRun) -> str:
    earlier = [(title, stage) for title, stage in _stages(run) if stage.get("reused")]
    notes = []
    if earlier:
        notes.append(
            f"Reused stages were finished by an earlier run; they are "
            f"{duration(_seconds(earlier))} of the total."
        )
    if run.record.get("seconds") is not None:
        notes.append(f"This run took {duration(run.record['seconds'])}.")
    return " ".join(notes)


def _seconds(members: Stages) -> float:
    return sum(stage.get("seconds") or 0.0 for _, stage in members)
