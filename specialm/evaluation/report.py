"""The report of a run: one self-contained HTML page, made from the run record alone.

A run record is a dict of plain values, as JSON would hold them:

    title, created, command: str;  versions: {package: version};  settings: {"data.context": 128}
    machine: {cpu, cores, memory_gb, platform}
    stages: [{name, title, seconds, reused, detail}]
    corpora: [{name, role: generic | domain, documents, bytes, licence}]
    data: {"generic": sizes, "domains": {domain: {"train" | "valid" | "heldout": sizes}}}
        with sizes = {windows, tokens, documents, bytes}
    weights: {domain: {generic_histogram, specialist_histogram, weights: K floats each,
        effective_sample_size, effective_fraction, mean_repetitions, max_repetitions,
        planned_windows, entropy, top_fraction,
        top_clusters: [{cluster, generic_probability, specialist_probability, weight, samples}]}}
    curves: [{method, domain, seed, phase, points: [{step, tokens, loss, split: train | valid}]}]
    models: {name: {params, flops_per_token, tokens, tokens_per_parameter, ...}}
    results: rows, see specialm.evaluation.summary

Any part may be missing: its section is then left out.
"""

import math
import os
from html import escape
from importlib.resources import files
from pathlib import Path

from specialm.evaluation import charts
from specialm.evaluation.summary import (
    BASE,
    MACRO,
    METHODS,
    PHASES,
    Summary,
    answer,
    cell,
    count,
    label,
    number,
    question,
    signed_percent,
    spread,
    table,
)

__all__ = ["html", "table", "write"]

SAMPLE_LETTERS = 280  # of one sample text; the rest is cut, marked by an ellipsis
OPEN_CLUSTERS = 3  # of the top clusters a domain shows before "more"

# Folded parts are opened before printing, so that paper has all of the page.
SCRIPT = (
    "addEventListener('beforeprint',()=>document.querySelectorAll('details')"
    ".forEach(d=>d.open=true))"
)


def write(run: dict, path: Path) -> None:
    """Writes the report of a run record as one HTML file without any outside reference."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(html(run), encoding="utf-8", errors="replace")
    os.replace(partial, path)


def html(run: dict) -> str:
    """The page as text."""
    summary = Summary(run.get("results"))
    sections = [
        ("results", "Perplexity by domain", _results(summary)),
        ("difference", f"Difference from {label(BASE)}", _differences(summary)),
        ("curves", "Learning curves", _curves(run.get("curves"), summary)),
        ("weights", "Importance weights", _weights(run.get("weights"))),
        ("clusters", "What the top clusters hold", _clusters(run.get("weights"))),
        ("models", "Models", _models(run.get("models"))),
        ("data", "Data", _data(run.get("data")) + _corpora(run.get("corpora"))),
        ("run", "What was run", _stages(run) + _provenance(run)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{_clean(title)}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{_clean(title)}</h2>{content}</section>'
        for name, title, content in sections
    )
    style = (files("specialm.evaluation") / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_clean(run.get('title') or 'Report')}</title><style>{style}</style></head>"
        f"<body><main>{_header(run, summary)}<nav>{links}</nav>{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _header(run: dict, summary: Summary) -> str:
    facts = [str(run["created"]).replace("T", " ")[:16]] if run.get("created") else []
    facts += [_plural(len(summary.domains), "domain")] if summary.domains else []
    facts += [_plural(len(summary.methods), "method")] if summary.methods else []
    facts += [_plural(len(summary.seeds), "seed")] if summary.seeds else []
    stages = run.get("stages") or []
    if stages:
        facts.append(f"{_time(sum(stage.get('seconds') or 0 for stage in stages))} in all stages")
    parts = [f"<h1>{_clean(run.get('title') or 'Report')}</h1>"]
    parts.append(f'<p class="facts">{" · ".join(_clean(fact) for fact in facts)}</p>')
    sentences = answer(summary)
    if sentences:
        rest = " ".join(sentences[1:])
        parts.append(
            f'<div class="answer"><p class="asked">{_clean(question(summary))}</p>'
            f'<p class="said">{_clean(sentences[0])}</p>'
            + (f"<p>{_clean(rest)}</p>" if rest else "")
            + "</div>"
        )
    return f"<header>{''.join(parts)}</header>"


def _results(summary: Summary) -> str:
    if not summary.methods:
        return ""
    known = [m for m in summary.methods if m in METHODS]
    glossary = "".join(
        f'<dt class="{_colour(summary, m)}">{_clean(label(m))}</dt><dd>{_clean(METHODS[m][1])}</dd>'
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
            (label(m), _colour(summary, m), summary.cell(m, domain, "pretrained"),
             summary.cell(m, domain, "finetuned"))
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
        f'<p class="note">{notes}</p><dl class="glossary">{glossary}</dl>{key}{_grid(dots)}'
    )


def _main_table(summary: Summary) -> str:
    head = "".join(f"<th>{_clean(_domain(domain))}</th>" for domain in summary.columns)
    body = []
    for phase in summary.phases:
        title = PHASES.get(phase, phase)
        body.append(f'<tr class="phase"><th colspan="{1 + len(summary.columns)}">{_clean(title)}'
                    "</th></tr>")
        for method in summary.methods:
            cells = [_result_cell(summary, method, domain, phase) for domain in summary.columns]
            if any(cells):
                name = f'<th scope="row" class="{_colour(summary, method)}">{_clean(label(method))}'
                body.append(f"<tr>{name}</th>{''.join(c or '<td>–</td>' for c in cells)}</tr>")
    return f'<table class="results"><thead><tr><th></th>{head}</tr></thead>' \
        f"<tbody>{''.join(body)}</tbody></table>"


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
            sd += f' <span class="sd">({_plural(value.seeds, "seed")})</span>'
        parts.append(f'<span class="{css}">{mean}{sd}</span>')
    css = ' class="macro"' if domain == MACRO else ""
    return f"<td{css}>{' '.join(parts)}</td>" if parts else ""


def _differences(summary: Summary) -> str:
    others = [m for m in summary.methods if m != BASE]
    head = "".join(f"<th>{_clean(_domain(domain))}</th>" for domain in summary.columns)
    body, panels = [], []
    for phase in summary.phases:
        rows, strip = [], []
        for method in others:
            changes = [summary.difference(method, domain, phase) for domain in summary.columns]
            if not any(changes):
                continue
            cells = "".join(
                f"<td>{_clean(signed_percent(cell(change))) if change else '–'}</td>"
                for change in changes
            )
            colour = _colour(summary, method)
            rows.append(f'<tr><th scope="row" class="{colour}">{_clean(label(method))}</th>'
                        f"{cells}</tr>")
            macro = summary.difference(method, MACRO, phase)
            if macro:
                strip.append((label(method), colour, list(macro.values()), cell(macro)))
        title = PHASES.get(phase, phase)
        if rows:
            body.append(f'<tr class="phase"><th colspan="{1 + len(summary.columns)}">'
                        f"{_clean(title)}</th></tr>{''.join(rows)}")
        if strip:
            panels.append(charts.differences(strip, f"{title}: macro"))
    if not body:
        return ""
    paired = ", paired by seed" if len(summary.seeds) > 1 else ""
    marks = " In the charts every dot is a seed and the bar their mean." if panels else ""
    return (
        f'<p class="note">Change of perplexity against {_clean(label(BASE))}{paired}; below zero '
        f'is better.{marks}</p>{_grid(panels)}<div class="scroll"><table><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _curves(curves, summary: Summary) -> str:
    plan = (
        ("pretrained", "Pretraining", "train", "tokens",
         "Loss in nats per token on each method's own training text, which differs between "
         "methods: compare the shapes, not the heights. The first steps run off the top."),
        ("finetuned", "Fine-tuning", "valid", "step",
         "Loss in nats per token on the domain's validation text, the same for all methods. "
         "A dot marks the lowest point, the one kept."),
    )
    parts = []
    for phase, title, split, x_name, note in plan:
        lines = [line for line in map(lambda c: _line(c, split, x_name), curves or ())
                 if line and line[0].get("phase") == phase]
        domains = {line[0].get("domain"): None for line in lines}
        panels = []
        # A curve of no domain (one model for all of them) stands in every domain's panel.
        for domain in [d for d in domains if d is not None] or [None]:
            here = [
                (label(c["method"]), _colour(summary, c["method"]), x_N, loss_N)
                for c, x_N, loss_N in lines if c.get("domain") in (domain, None)
            ]
            if here:
                panels.append(charts.curves(here, domain or "all domains", x_name,
                                            best=split == "valid"))
        if panels:
            parts.append(f'<h3>{title}</h3><p class="note">{note}</p>{_grid(panels)}')
    return "".join(parts)


def _line(curve: dict, split: str, x_name: str):
    """(curve, x_N, loss_N) of the points of one split, None where there are none."""
    points = [
        (p.get(x_name, p.get("step")), p["loss"]) for p in curve.get("points") or ()
        if p.get("split", split) == split and p.get("loss") is not None
    ]
    points = sorted((x, y) for x, y in points if x is not None and math.isfinite(y))
    return (curve, [x for x, _ in points], [y for _, y in points]) if points else None


CLUSTER_NOTE = (
    "Each cluster's share of the domain's windows, upwards, and of the generic windows, downwards. "
    "Clusters stand from the highest weight on the left to the lowest; the axis stretches the "
    "first ranks (square root)."
)
COVERAGE_NOTE = (
    "Taking the generic corpus cluster by cluster from the highest weight: how much of the domain's "
    "windows fall in the same clusters. If the two were alike, the line would be the diagonal."
)


def _weights(weights) -> str:
    columns = (
        ("effective_sample_size", "Effective sample, windows", count),
        ("effective_fraction", "Share of the generic corpus", _percent),
        ("planned_windows", "Planned draws, windows", count),
        ("mean_repetitions", "Repetitions, mean", number),
        ("max_repetitions", "Repetitions, most", number),
        ("entropy", "Entropy of the domain, nats", number),
        ("top_fraction", "Domain in its top cluster", _percent),
    )
    rows, shares, coverages = [], [], []
    for domain, facts in (weights or {}).items():
        rows.append((domain, facts))
        names = ("generic_histogram", "specialist_histogram", "weights")
        histograms = [facts.get(name) for name in names]
        if all(histograms):
            shares.append(charts.histograms(*histograms, domain))
            coverages.append(charts.coverage(*histograms, domain))
    if not rows:
        return ""
    note = (
        "Every window of text belongs to a cluster. A cluster's weight is its share of the domain "
        "divided by its share of the generic corpus; importance sampling draws generic windows by "
        "these weights. The effective sample is how many equally weighted windows the draw is "
        "worth; repetitions say how often a window is seen in the planned training."
    )
    figures = (
        f'<h3>Cluster shares</h3><p class="note">{CLUSTER_NOTE}</p>{_grid(shares)}'
        f'<h3>Coverage</h3><p class="note">{COVERAGE_NOTE}</p>{_grid(coverages)}'
    )
    return (f'<p class="note">{note}</p>{_facts_table("Domain", columns, rows)}'
            + (figures if shares else ""))


def _clusters(weights) -> str:
    parts = []
    for domain, facts in (weights or {}).items():
        cards = [_cluster(c) for c in facts.get("top_clusters") or ()]
        if cards:
            more = "".join(cards[OPEN_CLUSTERS:])
            folded = (
                f"<details><summary>{len(cards) - OPEN_CLUSTERS} more</summary>"
                f'<div class="cards">{more}</div></details>' if more else ""
            )
            parts.append(f"<h3>{_clean(domain)}</h3>"
                         f'<div class="cards">{"".join(cards[:OPEN_CLUSTERS])}</div>{folded}')
    note = "Windows of the generic corpus from the clusters that each domain draws most."
    return f'<p class="note">{note}</p>{"".join(parts)}' if parts else ""


def _cluster(cluster: dict) -> str:
    shares = ""
    if None not in (cluster.get("generic_probability"), cluster.get("specialist_probability")):
        shares = (f"{_percent(cluster['generic_probability'])} of generic, "
                  f"{_percent(cluster['specialist_probability'])} of the domain")
    weight = f"weight {number(cluster['weight'], 1)}" if cluster.get("weight") is not None else ""
    samples = "".join(f"<blockquote>{_clean(_cut(text))}</blockquote>"
                      for text in cluster.get("samples") or ())
    return (f'<article class="card"><h4>cluster {_clean(cluster.get("cluster", "–"))} '
            f'<span class="weight">{weight}</span></h4><p class="note">{shares}</p>{samples}'
            "</article>")


def _models(models) -> str:
    shown = {
        "params": ("Parameters", count),
        "flops_per_token": ("FLOPs per token", count),
        "tokens": ("Training tokens", count),
        "tokens_per_parameter": ("Tokens per parameter", number),
    }
    keys = {key: None for facts in (models or {}).values() for key in facts}
    keys = [k for k in shown if k in keys] + [k for k in keys if k not in shown]
    columns = [(k, *shown.get(k, (k.replace("_", " "), _value))) for k in keys]
    rows = [(label(name), facts) for name, facts in (models or {}).items()]
    return _facts_table("Model", columns, rows) if rows else ""


SIZES = (
    ("documents", "Documents", count), ("windows", "Windows", count), ("tokens", "Tokens", count),
    ("bytes", "Megabytes", lambda value: number(value / 1e6)),
)


def _data(data) -> str:
    data = data or {}
    rows = [("generic", data["generic"])] if data.get("generic") else []
    for domain, splits in (data.get("domains") or {}).items():
        rows += [(f"{domain}, {split}", facts) for split, facts in splits.items()]
    return _facts_table("Windows of text", SIZES, rows) if rows else ""


def _corpora(corpora) -> str:
    columns = (("role", "Role", _value), SIZES[0], SIZES[3], ("licence", "Licence", _value))
    rows = [(corpus.get("name", "–"), corpus) for corpus in corpora or ()]
    return f"<h3>Corpora</h3>{_facts_table('Corpus', columns, rows)}" if rows else ""


def _stages(run: dict) -> str:
    stages = run.get("stages") or []
    if not stages:
        return ""
    seconds = [stage.get("seconds") or 0.0 for stage in stages]
    longest = max(seconds) or 1.0
    rows = []
    for stage, time in zip(stages, seconds, strict=True):
        reused = '<span class="tag">reused</span>' if stage.get("reused") else ""
        rows.append(
            f'<tr><th scope="row">{_clean(stage.get("title") or stage.get("name"))} {reused}'
            f'<p class="note">{_clean(stage.get("detail") or "")}</p></th><td>{_time(time)}</td>'
            f'<td class="time"><div style="width:{100 * time / longest:.1f}%"></div></td></tr>'
        )
    total = _time(sum(seconds))
    earlier = sum(t for stage, t in zip(stages, seconds, strict=True) if stage.get("reused"))
    note = "Reused stages were finished by an earlier run." if earlier else ""
    note += f" They are {_time(earlier)} of the total." if earlier else ""
    return (
        '<table class="stages"><tbody>' + "".join(rows) + f'</tbody><tfoot><tr><th scope="row">'
        f"Total</th><td>{total}</td><td></td></tr></tfoot></table>"
        + (f'<p class="note">{note}</p>' if note else "")
    )


def _provenance(run: dict) -> str:
    machine = run.get("machine") or {}
    units = {"cores": "{} cores", "memory_gb": "{} GB of memory"}
    facts = [units.get(key, "{}").format(_value(value)) for key, value in machine.items()]
    parts = [f"<h3>Machine</h3><p>{_clean(', '.join(facts))}</p>"] if facts else []
    if run.get("command"):
        parts.append(f"<h3>Command</h3><pre>{_clean(run['command'], keep_lines=True)}</pre>")
    for key, title in (("settings", "Settings"), ("versions", "Versions")):
        if run.get(key):
            pairs = "".join(
                f"<div><dt>{_clean(name)}</dt><dd>{_clean(_value(value))}</dd></div>"
                for name, value in run[key].items()
            )
            parts.append(f"<details><summary>{title} ({len(run[key])})</summary>"
                         f'<dl class="pairs">{pairs}</dl></details>')
    return "".join(parts)


def _facts_table(corner: str, columns, rows) -> str:
    """A table of rows (name, dict) and columns (key, title, format); empty columns left out."""
    columns = [c for c in columns if any(facts.get(c[0]) is not None for _, facts in rows)]
    head = "".join(
        f"<th{_left([facts.get(key) for _, facts in rows])}>{_clean(title)}</th>"
        for key, title, _ in columns
    )
    body = []
    for name, facts in rows:
        cells = "".join(
            f"<td{_left([facts.get(key)])}>"
            f"{_clean(show(facts[key])) if facts.get(key) is not None else '–'}</td>"
            for key, _, show in columns
        )
        body.append(f'<tr><th scope="row">{_clean(name)}</th>{cells}</tr>')
    return (f'<div class="scroll"><table><thead><tr><th>{_clean(corner)}</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>")


def _left(values) -> str:
    return ' class="left"' if any(isinstance(value, str) for value in values) else ""


def _grid(panels) -> str:
    """Panels side by side; four stand two by two rather than three and one."""
    kind = "grid two" if len(panels) in (2, 4) else "grid"
    return f'<div class="{kind}">{"".join(panels)}</div>' if panels else ""


def _colour(summary: Summary, method: str) -> str:
    """The colour class: a known method has its own, others take the next ones."""
    known = list(METHODS)
    others = [m for m in summary.methods if m not in METHODS]
    place = known.index(method) if method in known else len(known) + (
        others.index(method) if method in others else 0)
    return f"m{place % 14}"


def _domain(domain: str) -> str:
    return "macro average" if domain == MACRO else domain


def _clean(value, keep_lines: bool = False) -> str:
    """Escaped text without control characters."""
    text = str(value)
    text = "".join(c if c.isprintable() or (keep_lines and c == "\n") else " " for c in text)
    return escape(text, quote=True)


def _cut(text: str) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= SAMPLE_LETTERS else text[:SAMPLE_LETTERS].rstrip() + "…"


def _value(value) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%" if value >= 0.01 else f"{100 * value:.2g}%"


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
