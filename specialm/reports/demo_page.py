"""The report of a run: one self-contained HTML page, made from the run record alone.

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
from importlib.resources import files
from pathlib import Path

from specialm.common.files import write_text
from specialm.reports import charts, demo_sections
from specialm.reports.markup import clean, duration, grid, plural
from specialm.reports.summary import (
    BASE,
    MACRO,
    METHODS,
    PHASES,
    Summary,
    answer,
    cell,
    label,
    question,
    signed_percent,
    spread,
    table,
)

__all__ = ["html", "table", "write"]

# Settings and versions are unfolded before printing.
SCRIPT = (
    "addEventListener('beforeprint',()=>document.querySelectorAll('details.record')"
    ".forEach(d=>d.open=true))"
)


def write(run: dict, path: Path) -> None:
    """Writes the report of a run record as one HTML file without any outside reference."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, html(run))


def html(run: dict) -> str:
    """The page as text."""
    summary = Summary(run.get("results"))
    sections = [
        ("results", "Perplexity by domain", _results(summary)),
        ("difference", f"Difference from {label(BASE)}", _differences(summary)),
        ("curves", "Learning curves", _curves(run.get("curves"), summary)),
        ("weights", "Importance weights", demo_sections.weights_section(run.get("weights"))),
        (
            "clusters",
            "What the top clusters hold",
            demo_sections.clusters_section(run.get("weights")),
        ),
        ("models", "Models", demo_sections.models_section(run.get("models"))),
        (
            "data",
            "Data",
            demo_sections.data_section(run.get("data"))
            + demo_sections.corpora_section(run.get("corpora")),
        ),
        (
            "run",
            "What was run",
            demo_sections.stages_section(run) + demo_sections.provenance_section(run),
        ),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{clean(title)}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{clean(title)}</h2>{content}</section>'
        for name, title, content in sections
    )
    style = (files("specialm.reports") / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{clean(run.get('title') or 'Report')}</title><style>{style}</style></head>"
        f"<body><main>{_header(run, summary)}<nav>{links}</nav>{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _header(run: dict, summary: Summary) -> str:
    facts = [str(run["created"]).replace("T", " ")[:16]] if run.get("created") else []
    facts += [plural(len(summary.domains), "domain")] if summary.domains else []
    facts += [plural(len(summary.methods), "method")] if summary.methods else []
    facts += [plural(len(summary.seeds), "seed")] if summary.seeds else []
    stages = run.get("stages") or []
    if stages:
        seconds = sum(stage.get("seconds") or 0 for stage in stages)
        facts.append(f"{duration(seconds)} in all stages")
    parts = [f"<h1>{clean(run.get('title') or 'Report')}</h1>"]
    parts.append(f'<p class="facts">{" · ".join(clean(fact) for fact in facts)}</p>')
    sentences = answer(summary)
    if sentences:
        rest = " ".join(sentences[1:])
        parts.append(
            f'<div class="answer"><p class="asked">{clean(question(summary))}</p>'
            f'<p class="said">{clean(sentences[0])}</p>'
            + (f"<p>{clean(rest)}</p>" if rest else "")
            + "</div>"
        )
    return f"<header>{''.join(parts)}</header>"


def _results(summary: Summary) -> str:
    if not summary.methods:
        return ""
    known = [m for m in summary.methods if m in METHODS]
    glossary = "".join(
        f'<dt class="{_colour(summary, m)}">{clean(label(m))}</dt><dd>{clean(METHODS[m][1])}</dd>'
        for m in known
    )
    over = f"Mean ± sample standard deviation over {len(summary.seeds)} seeds. "
    notes = over if len(summary.seeds) > 1 else ""
    notes += "Lower is better; the lowest of a column is bold. "
    if MACRO in summary.columns:
        notes += "Macro: exp of the mean over domains of the mean loss per token."
    dots = []
    for domain in summary.columns:
        rows = [
            (
                label(m),
                _colour(summary, m),
                summary.cell(m, domain, "pretrained"),
                summary.cell(m, domain, "finetuned"),
            )
            for m in summary.methods
        ]
        rows = [row for row in rows if row[2] or row[3]]
        dots += [charts.dots(rows, _domain(domain))] if rows else []
    key = ""
    if dots:
        key = (
            '<h3>Before and after fine-tuning</h3><p class="note"><span class="key ring"></span> '
            'before <span class="key dot"></span> after fine-tuning (figure on the right). '
            "Perplexity; each panel has its own logarithmic scale.</p>"
        )
    return (
        '<input type="radio" name="unit" id="unit-ppl" checked><label for="unit-ppl">perplexity'
        '</label><input type="radio" name="unit" id="unit-bpb"><label for="unit-bpb">bits per byte'
        f'</label><div class="scroll">{_main_table(summary)}</div>'
        f'<p class="note">{notes}<span class="paper"> Second line: bits per byte.</span></p>'
        f'<dl class="glossary">{glossary}</dl>{key}{grid(dots)}'
    )


def _main_table(summary: Summary) -> str:
    head = "".join(f"<th>{clean(_domain(domain))}</th>" for domain in summary.columns)
    body = []
    for phase in summary.phases:
        title = PHASES.get(phase, phase)
        body.append(
            f'<tr class="phase"><th colspan="{1 + len(summary.columns)}">{clean(title)}</th></tr>'
        )
        for method in summary.methods:
            cells = [_result_cell(summary, method, domain, phase) for domain in summary.columns]
            if any(cells):
                name = f'<th scope="row" class="{_colour(summary, method)}">{clean(label(method))}'
                body.append(f"<tr>{name}</th>{''.join(c or '<td>–</td>' for c in cells)}</tr>")
    return (
        f'<table class="results"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _result_cell(summary: Summary, method: str, domain: str, phase: str) -> str:
    """Both units of one result, of which the page shows one; "" without a result."""
    parts = []
    for field, css, decimals in (("perplexity", "ppl", None), ("bits_per_byte", "bpb", 3)):
        value = summary.cell(method, domain, phase, field)
        if value is None:
            continue
        mean, *sd = spread(value, decimals).split(" ± ")
        if summary.lowest(domain, phase, field) == method:
            mean = f"<b>{mean}</b>"
        sd = f' <span class="sd">± {sd[0]}</span>' if sd else ""
        if value.seeds < len(summary.seeds):
            sd += f' <span class="sd">({plural(value.seeds, "seed")})</span>'
        parts.append(f'<span class="{css}">{mean}{sd}</span>')
    css = ' class="macro"' if domain == MACRO else ""
    return f"<td{css}>{' '.join(parts)}</td>" if parts else ""


def _differences(summary: Summary) -> str:
    others = [m for m in summary.methods if m != BASE]
    head = "".join(f"<th>{clean(_domain(domain))}</th>" for domain in summary.columns)
    body, panels = [], []
    for phase in summary.phases:
        rows, strip = [], []
        for method in others:
            changes = [summary.difference(method, domain, phase) for domain in summary.columns]
            if not any(changes):
                continue
            cells = "".join(
                f"<td>{clean(signed_percent(cell(change))) if change else '–'}</td>"
                for change in changes
            )
            colour = _colour(summary, method)
            rows.append(
                f'<tr><th scope="row" class="{colour}">{clean(label(method))}</th>{cells}</tr>'
            )
            macro = summary.difference(method, MACRO, phase)
            if macro:
                strip.append((label(method), colour, list(macro.values()), cell(macro)))
        title = PHASES.get(phase, phase)
        if rows:
            body.append(
                f'<tr class="phase"><th colspan="{1 + len(summary.columns)}">'
                f"{clean(title)}</th></tr>{''.join(rows)}"
            )
        if strip:
            panels.append(charts.differences(strip, f"{title}: macro"))
    if not body:
        return ""
    paired = ", paired by seed" if len(summary.seeds) > 1 else ""
    marks = " In the charts every dot is a seed and the bar their mean." if panels else ""
    return (
        f'<p class="note">Change of perplexity against {clean(label(BASE))}{paired}; below zero '
        f'is better.{marks}</p>{grid(panels)}<div class="scroll"><table><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _curves(curves, summary: Summary) -> str:
    plan = (
        (
            "pretrained",
            "Pretraining",
            "train",
            "tokens",
            "Loss in nats per token on each method's own training text, which differs between "
            "methods: compare the shapes, not the heights. The first steps run off the top; "
            "long curves are averaged in buckets.",
        ),
        (
            "finetuned",
            "Fine-tuning",
            "valid",
            "step",
            "Loss in nats per token on the domain's validation text, the same for all methods. "
            "A dot marks the lowest point, the one kept.",
        ),
    )
    parts = []
    for phase, title, split, x_name, note in plan:
        lines = [
            line
            for line in map(lambda c: _line(c, split, x_name), curves or ())
            if line and line[0].get("phase") == phase
        ]
        domains = {line[0].get("domain"): None for line in lines}
        panels = []
        # A curve of no domain (one model for all of them) stands in every domain's panel.
        for domain in [d for d in domains if d is not None] or [None]:
            here = [
                (label(c["method"]), _colour(summary, c["method"]), x_N, loss_N)
                for c, x_N, loss_N in lines
                if c.get("domain") in (domain, None)
            ]
            if here:
                panels.append(
                    charts.curves(here, domain or "all domains", x_name, best=split == "valid")
                )
        if panels:
            parts.append(f'<h3>{title}</h3><p class="note">{note}</p>{grid(panels)}')
    return "".join(parts)


def _line(curve: dict, split: str, x_name: str):
    """(curve, x_N, loss_N) of the points of one split, None where there are none."""
    points = [
        (p.get(x_name, p.get("step")), p["loss"])
        for p in curve.get("points") or ()
        if p.get("split", split) == split and p.get("loss") is not None
    ]
    points = sorted((x, y) for x, y in points if x is not None and math.isfinite(y))
    return (curve, [x for x, _ in points], [y for _, y in points]) if points else None


def _colour(summary: Summary, method: str) -> str:
    """The colour class: a known method has its own, others take the next ones."""
    known = list(METHODS)
    others = [m for m in summary.methods if m not in METHODS]
    place = (
        known.index(method)
        if method in known
        else len(known) + (others.index(method) if method in others else 0)
    )
    return f"m{place % 14}"


def _domain(domain: str) -> str:
    return "macro average" if domain == MACRO else domain
