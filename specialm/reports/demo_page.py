"""The report of a run: one self-contained HTML page, from the run record alone.

A run record is a dict of plain values, as JSON would hold them:

    title, created, command: str;  versions: {package: version};  settings: {"data.context": 128}
    machine: {cpu, cores, memory_gb, platform}
    stages: [{name, title, seconds, reused, detail}];  seconds: of this run
    corpora: [{name, role: generic | domain, documents, bytes, licence}]
    data: {"generic": sizes, "domains": {domain: {"train" | "valid" | "heldout": sizes}}}
        with sizes = {windows, tokens, documents, bytes}
    weights: {domain: {generic_histogram, specialist_histogram, weights: K floats each,
        effective_sample_size, effective_fraction, mean_repetitions, max_repetitions,
        planned_windows, entropy, top_fraction,
        top_clusters: [{cluster, generic_probability, specialist_probability, weight, samples}]}}
    curves: [{method, domain, seed, phase, points: [{step, tokens, loss, split: train | valid}]}]
    models: {name: {params, flops_per_token, tokens, tokens_per_parameter, ...}}
    results: rows, see specialm.reports.summary

Any part may be missing: its section is then left out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from specialm import methods
from specialm.common.files import write_text
from specialm.evaluation import perplexity
from specialm.reports import charts, demo_sections, styles
from specialm.reports.markup import clean, duration, grid, page, plural
from specialm.reports.summary import (
    BASE,
    MACRO,
    PHASES,
    Summary,
    answer,
    cell_of,
    in_order,
    label,
    question,
    signed_percent,
    spread,
    table,
)

__all__ = ["html", "table", "write"]

Classes = Mapping[str, str]  # {method: colour class}


def write(run: dict, path: Path) -> None:
    """Writes the report of a run record as one HTML file without any outside reference."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html(run))


def html(run: dict) -> str:
    """The page as text."""
    summary, weights, sections = Summary(run.get("results")), run.get("weights"), demo_sections
    curves = run.get("curves") or ()
    names = in_order([*summary.methods, *(curve["method"] for curve in curves)])
    classes = {name: f"m{i}" for i, name in enumerate(names)}
    parts = [
        ("results", "Perplexity by domain", _results(summary, classes)),
        ("difference", f"Difference from {label(BASE)}", _differences(summary, classes)),
        ("curves", "Learning curves", _curves(curves, classes)),
        ("weights", "Importance weights", sections.weights_section(weights)),
        ("clusters", "What the top clusters hold", sections.clusters_section(weights)),
        ("models", "Models", sections.models_section(run.get("models"))),
        (
            "data",
            "Data",
            sections.data_section(run.get("data")) + sections.corpora_section(run.get("corpora")),
        ),
        ("run", "What was run", sections.stages_section(run) + sections.provenance_section(run)),
    ]
    title = str(run.get("title") or "Report")
    return page(title, _header(title, run, summary), parts, styles.sheet(names) + _unit_style())


def _header(title: str, run: dict, summary: Summary) -> str:
    facts = [str(run["created"]).replace("T", " ")[:16]] if run.get("created") else []
    for found, noun in (
        (summary.domains, "domain"),
        (summary.methods, "method"),
        (summary.seeds, "seed"),
    ):
        facts += [plural(len(found), noun)] if found else []
    stages = run.get("stages") or []
    if stages:
        seconds = sum(stage.get("seconds") or 0 for stage in stages)
        facts.append(f"{duration(seconds)} in all stages")
    line = " · ".join(clean(fact) for fact in facts)
    return f'<header><h1>{clean(title)}</h1><p class="facts">{line}</p>{_answer(summary)}</header>'


def _answer(summary: Summary) -> str:
    sentences = answer(summary)
    if not sentences:
        return ""
    rest = " ".join(sentences[1:])
    return (
        f'<div class="answer"><p class="asked">{clean(question(summary))}</p>'
        f'<p class="said">{clean(sentences[0])}</p>'
        + (f"<p>{clean(rest)}</p>" if rest else "")
        + "</div>"
    )


def _results(summary: Summary, classes: Classes) -> str:
    if not summary.methods:
        return ""
    known = [record for record in map(methods.find, summary.methods) if record]
    glossary = "".join(
        f'<dt class="{classes[m.name]}">{clean(m.label)}</dt><dd>{clean(m.description)}</dd>'
        for m in known
    )
    lines = ", ".join(metric.label for metric in perplexity.METRICS)
    return (
        f'{_unit_choice()}<div class="scroll">{_main_table(summary, classes)}</div>'
        f'<p class="note">{_results_note(summary)}'
        f'<span class="paper"> The lines of a cell: {lines}.</span></p>'
        f'<dl class="glossary">{glossary}</dl>{_dots(summary, classes)}'
    )


def _results_note(summary: Summary) -> str:
    over = f"Mean ± sample standard deviation over {len(summary.seeds)} seeds. "
    notes = over if len(summary.seeds) > 1 else ""
    notes += "Lower is better; the lowest of a column is bold. "
    if MACRO in summary.columns:
        notes += "Macro: exp of the mean over domains of the mean loss per token."
    return notes


def _unit_choice() -> str:
    """A button for each metric; the table shows the chosen one."""
    return "".join(
        f'<input type="radio" name="unit" id="unit-{metric.field}"{" checked" * (i == 0)}>'
        f'<label for="unit-{metric.field}">{metric.label}</label>'
        for i, metric in enumerate(perplexity.METRICS)
    )


def _unit_style() -> str:
    """On a screen the values of the other metrics are hidden."""
    rules = "".join(
        f"#unit-{m.field}:checked~.scroll .unit:not(.{m.field}){{display:none}}"
        for m in perplexity.METRICS
    )
    return f"@media screen{{{rules}}}"


def _dots(summary: Summary, classes: Classes) -> str:
    """A panel for each domain: perplexity before and after fine-tuning."""
    panels = []
    for domain in summary.columns:
        rows = [
            (
                label(m),
                classes[m],
                summary.cell(m, domain, "pretrained"),
                summary.cell(m, domain, "finetuned"),
            )
            for m in summary.methods
        ]
        rows = [row for row in rows if row[2] or row[3]]
        panels += [charts.dots(rows, _domain(domain))] if rows else []
    if not panels:
        return ""
    return (
        '<h3>Before and after fine-tuning</h3><p class="note"><span class="key ring"></span> '
        'before <span class="key dot"></span> after fine-tuning (figure on the right). '
        f"Perplexity; each panel has its own logarithmic scale.</p>{grid(panels)}"
    )


def _main_table(summary: Summary, classes: Classes) -> str:
    head = "".join(f"<th>{clean(_domain(domain))}</th>" for domain in summary.columns)
    body = []
    for phase in summary.phases:
        body.append(_phase_row(phase, summary))
        for method in summary.methods:
            cells = [_result_cell(summary, method, domain, phase) for domain in summary.columns]
            if any(cells):
                body.append(_method_row(method, [c or "<td>–</td>" for c in cells], classes))
    return (
        f'<table class="results"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _phase_row(phase: str, summary: Summary) -> str:
    title = clean(PHASES.get(phase, phase))
    return f'<tr class="phase"><th colspan="{1 + len(summary.columns)}">{title}</th></tr>'


def _method_row(method: str, cells: Sequence[str], classes: Classes) -> str:
    name = f'<th scope="row" class="{classes[method]}">{clean(label(method))}</th>'
    return f"<tr>{name}{''.join(cells)}</tr>"


def _result_cell(summary: Summary, method: str, domain: str, phase: str) -> str:
    """All metrics of one result, of which the page shows one; "" without a result."""
    texts = [_metric_text(summary, method, domain, phase, metric) for metric in perplexity.METRICS]
    css = ' class="macro"' if domain == MACRO else ""
    return f"<td{css}>{' '.join(filter(None, texts))}</td>" if any(texts) else ""


def _metric_text(
    summary: Summary, method: str, domain: str, phase: str, metric: perplexity.Metric
) -> str:
    value = summary.cell(method, domain, phase, metric.field)
    if value is None:
        return ""
    mean, _, sd = spread(value, metric.decimals).partition(" ± ")
    if summary.lowest(domain, phase, metric.field) == method:
        mean = f"<b>{mean}</b>"
    text = f'{mean} <span class="sd">± {sd}</span>' if sd else mean
    if value.seeds < len(summary.seeds):
        text += f' <span class="sd">({plural(value.seeds, "seed")})</span>'
    return f'<span class="unit {metric.field}">{text}</span>'


def _differences(summary: Summary, classes: Classes) -> str:
    body, panels = [], []
    for phase in summary.phases:
        rows = [_difference_row(summary, m, phase, classes) for m in summary.methods if m != BASE]
        if any(rows):
            body.append(_phase_row(phase, summary) + "".join(rows))
        strip = _difference_strip(summary, phase, classes)
        if strip:
            panels.append(charts.differences(strip, f"{PHASES.get(phase, phase)}: macro"))
    if not body:
        return ""
    head = "".join(f"<th>{clean(_domain(domain))}</th>" for domain in summary.columns)
    seeds = len(summary.seeds) > 1
    paired = ", paired by seed, mean ± sample standard deviation" if seeds else ""
    marks = " In the charts every dot is a seed and the bar their mean." if panels else ""
    return (
        f'<p class="note">Change of perplexity against {clean(label(BASE))}{paired}; below zero '
        f'is better.{marks}</p>{grid(panels)}<div class="scroll"><table><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _difference_row(summary: Summary, method: str, phase: str, classes: Classes) -> str:
    """The method's changes by domain; "" where there are none."""
    changes = [summary.difference(method, domain, phase) for domain in summary.columns]
    if not any(changes):
        return ""
    texts = [signed_percent(cell_of(change)) if change else "–" for change in changes]
    return _method_row(method, [f"<td>{clean(text)}</td>" for text in texts], classes)


def _difference_strip(summary: Summary, phase: str, classes: Classes) -> list[tuple]:
    """(label, colour class, changes of the seeds, their Cell) of each method's macro average."""
    macros = {m: summary.difference(m, MACRO, phase) for m in summary.methods if m != BASE}
    return [
        (label(m), classes[m], list(change.values()), cell_of(change))
        for m, change in macros.items()
        if change
    ]


@dataclass(frozen=True)
class CurveKind:
    """Which points of which curves are drawn, and how to read them."""

    phase: str
    title: str
    split: str
    x_name: str
    note: str


CURVES = (
    CurveKind(
        "pretrained",
        "Pretraining",
        "train",
        "tokens",
        "Loss in nats per token on each method's own training text, which differs between "
        "methods: compare the shapes, not the heights. The first steps run off the top; "
        "long curves are averaged in buckets.",
    ),
    CurveKind(
        "finetuned",
        "Fine-tuning",
        "valid",
        "step",
        "Loss in nats per token on the domain's validation text, the same for all methods. "
        "A dot marks the lowest point, the model that is evaluated.",
    ),
)


def _curves(curves: Sequence[dict], classes: Classes) -> str:
    parts = []
    for kind in CURVES:
        found = (_line(c, kind) for c in curves if c.get("phase") == kind.phase)
        panels = _curve_panels([line for line in found if line], kind, classes)
        if panels:
            parts.append(f'<h3>{kind.title}</h3><p class="note">{kind.note}</p>{grid(panels)}')
    return "".join(parts)


def _curve_panels(lines: Sequence[tuple], kind: CurveKind, classes: Classes) -> list[str]:
    """A panel for each domain; a curve of no domain, one model for all, stands in each."""
    domains = dict.fromkeys(curve.get("domain") for curve, _, _ in lines)
    panels = []
    for domain in [d for d in domains if d is not None] or [None]:
        here = [
            (label(curve["method"]), classes[curve["method"]], x_N, loss_N)
            for curve, x_N, loss_N in lines
            if curve.get("domain") in (domain, None)
        ]
        if here:
            best = kind.split == "valid"
            panels.append(charts.curves(here, domain or "all domains", kind.x_name, best=best))
    return panels


def _line(curve: dict, kind: CurveKind) -> tuple[dict, list[float], list[float]] | None:
    """(curve, x_N, loss_N) of the points of one split, None where there are none."""
    points = [
        (p.get(kind.x_name, p.get("step")), p["loss"])
        for p in curve.get("points") or ()
        if p.get("split", kind.split) == kind.split and p.get("loss") is not None
    ]
    points = sorted((x, y) for x, y in points if x is not None and math.isfinite(y))
    return (curve, [x for x, _ in points], [y for _, y in points]) if points else None


def _domain(domain: str) -> str:
    return "macro average" if domain == MACRO else domain
