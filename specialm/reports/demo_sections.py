"""The report's sections on what the run was made of: weights, models, data, stages, settings.

Each takes its part of the run record (see specialm.reports.demo_page) and returns HTML, "" when
there is nothing to show.
"""

from specialm.reports import charts
from specialm.reports.markup import clean, cut, duration, facts_table, grid, percent, plain, plural
from specialm.reports.summary import count, label, number

OPEN_CLUSTERS = 3  # of the top clusters a domain shows before "more"

CLUSTER_NOTE = (
    "Each cluster's share of the domain's windows, upwards, and of the generic windows, downwards. "
    "Clusters stand from the highest weight on the left to the lowest; both axes are "
    "square roots, which stretch the first ranks and the small shares."
)
COVERAGE_NOTE = (
    "Taking the generic corpus cluster by cluster from the highest weight: how many of the "
    "domain's windows fall in the same clusters. If the two were alike, the line would be the "
    "diagonal."
)


def weights_section(weights) -> str:
    """The weights in figures per domain, cluster histograms and coverage curves."""
    columns = (
        ("effective_sample_size", "Effective sample, windows", count),
        ("effective_fraction", "Share of the generic corpus", percent),
        ("planned_windows", "Planned draws, windows", count),
        ("mean_repetitions", "Repetitions, mean", number),
        ("max_repetitions", "Repetitions, most", number),
        ("entropy", "Entropy of the domain, nats", number),
        ("top_fraction", "Domain in its top cluster", percent),
    )
    rows, shares, coverages = [], [], []
    for domain, facts in (weights or {}).items():
        rows.append((domain, facts))
        names = ("generic_histogram", "specialist_histogram", "weights")
        histograms = [facts.get(name) for name in names]
        if all(h is not None and len(h) for h in histograms):
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
        f'<h3>Cluster shares</h3><p class="note">{CLUSTER_NOTE}</p>{grid(shares)}'
        f'<h3>Coverage</h3><p class="note">{COVERAGE_NOTE}</p>{grid(coverages)}'
    )
    return f'<p class="note">{note}</p>{facts_table("Domain", columns, rows)}' + (
        figures if shares else ""
    )


def clusters_section(weights) -> str:
    """Sample texts of each domain's top clusters, the first ones open."""
    parts = []
    for domain, facts in (weights or {}).items():
        cards = [_cluster(c) for c in facts.get("top_clusters") or ()]
        if cards:
            more = "".join(cards[OPEN_CLUSTERS:])
            folded = (
                f"<details><summary>{len(cards) - OPEN_CLUSTERS} more</summary>"
                f'<div class="cards">{more}</div></details>'
                if more
                else ""
            )
            parts.append(
                f"<h3>{clean(domain)}</h3>"
                f'<div class="cards">{"".join(cards[:OPEN_CLUSTERS])}</div>{folded}'
            )
    note = "Windows of the generic corpus, from the top clusters of each domain."
    return f'<p class="note">{note}</p>{"".join(parts)}' if parts else ""


def _cluster(cluster: dict) -> str:
    shares = ""
    if None not in (cluster.get("generic_probability"), cluster.get("specialist_probability")):
        shares = (
            f"{percent(cluster['generic_probability'])} of generic, "
            f"{percent(cluster['specialist_probability'])} of the domain"
        )
    weight = f"weight {number(cluster['weight'], 1)}" if cluster.get("weight") is not None else ""
    samples = "".join(
        f'<blockquote dir="auto">{clean(cut(text))}</blockquote>'
        for text in cluster.get("samples") or ()
    )
    return (
        f'<article class="card"><h4>cluster {clean(cluster.get("cluster", "–"))} '
        f'<span class="weight">{weight}</span></h4><p class="note">{shares}</p>{samples}'
        "</article>"
    )


def models_section(models) -> str:
    """Size and cost of each model; unknown keys are shown as they are."""
    shown = {
        "params": ("Parameters", count),
        "flops_per_token": ("FLOPs per token", count),
        "tokens": ("Training tokens", count),
        "tokens_per_parameter": ("Tokens per parameter", number),
    }
    keys = {key: None for facts in (models or {}).values() for key in facts}
    keys = [k for k in shown if k in keys] + [k for k in keys if k not in shown]
    columns = [(k, *shown.get(k, (k.replace("_", " "), plain))) for k in keys]
    rows = [(label(name), facts) for name, facts in (models or {}).items()]
    return facts_table("Model", columns, rows) if rows else ""


SIZES = (
    ("documents", "Documents", count),
    ("windows", "Windows", count),
    ("tokens", "Tokens", count),
    ("bytes", "Megabytes", lambda value: number(value / 1e6)),
)


def data_section(data) -> str:
    """Windows, tokens and bytes of the generic corpus and of each domain's splits."""
    data = data or {}
    rows = [("generic", data["generic"])] if data.get("generic") else []
    for domain, splits in (data.get("domains") or {}).items():
        rows += [(f"{domain}, {split}", facts) for split, facts in splits.items()]
    return facts_table("Windows of text", SIZES, rows) if rows else ""


def corpora_section(corpora) -> str:
    """The corpora with their licences."""
    columns = (("role", "Role", plain), SIZES[0], SIZES[3], ("licence", "Licence", plain))
    rows = [(corpus.get("name", "–"), corpus) for corpus in corpora or ()]
    return f"<h3>Corpora</h3>{facts_table('Corpus', columns, rows)}" if rows else ""


def stages_section(run: dict) -> str:
    """The time of the stages as bars, and the total.

    Stages whose titles share the part before a slash (`scan/med`, `scan/books`) stand together;
    a folded table has each of them.
    """
    stages = [
        (str(stage.get("title") or stage.get("name") or "–"), stage)
        for stage in run.get("stages") or ()
    ]
    if not stages:
        return ""
    groups = {}
    for title, stage in stages:
        groups.setdefault(title.split("/")[0], []).append((title, stage))
    rows = []
    for group, members in groups.items():
        detail = plural(len(members), "stage") if len(members) > 1 else members[0][1].get("detail")
        reused = sum(bool(stage.get("reused")) for _, stage in members)
        tag = "" if not reused else "reused" if reused == len(members) else f"{reused} reused"
        title = group if len(members) > 1 else members[0][0]
        rows.append((title, detail, tag, _seconds(members)))
    note = ""
    earlier = [(title, stage) for title, stage in stages if stage.get("reused")]
    if earlier:
        note += (
            f"Reused stages were finished by an earlier run; they are "
            f"{duration(_seconds(earlier))} of the total. "
        )
    if run.get("seconds") is not None:
        note += f"This run took {duration(run['seconds'])}."
    parts = [_time_table(rows), f'<p class="note">{note}</p>' if note else ""]
    if len(groups) < len(stages):
        columns = (
            ("seconds", "Time", duration),
            ("reused", "Reused", lambda yes: "yes" * yes),
            ("detail", "", plain),
        )
        parts.append(
            f"<details><summary>all {len(stages)} stages</summary>"
            f"{facts_table('Stage', columns, stages)}</details>"
        )
    return "".join(parts)


def _seconds(stages) -> float:
    return sum(stage.get("seconds") or 0.0 for _, stage in stages)


def _time_table(rows) -> str:
    """Rows (title, detail, tag, seconds) with a bar each, and their sum."""
    longest = max(seconds for *_, seconds in rows) or 1.0
    body = []
    for title, detail, tag, seconds in rows:
        tag = f'<span class="tag">{tag}</span>' if tag else ""
        detail = f'<p class="note">{clean(detail)}</p>' if detail else ""
        body.append(
            f'<tr><th scope="row">{clean(title)} {tag}{detail}</th><td>{duration(seconds)}</td>'
            f'<td class="time"><div style="width:{100 * seconds / longest:.1f}%"></div></td></tr>'
        )
    total = duration(sum(seconds for *_, seconds in rows))
    return (
        f'<table class="stages"><tbody>{"".join(body)}</tbody><tfoot><tr><th scope="row">Total'
        f"</th><td>{total}</td><td></td></tr></tfoot></table>"
    )


def provenance_section(run: dict) -> str:
    """Machine, command, settings and versions."""
    machine = run.get("machine") or {}
    units = {"cores": "{} cores", "memory_gb": "{} GB of memory"}
    facts = [units.get(key, "{}").format(plain(value)) for key, value in machine.items()]
    parts = [f"<h3>Machine</h3><p>{clean(', '.join(facts))}</p>"] if facts else []
    if run.get("command"):
        parts.append(f"<h3>Command</h3><pre>{clean(run['command'], keep_lines=True)}</pre>")
    for key, title in (("settings", "Settings"), ("versions", "Versions")):
        if run.get(key):
            pairs = "".join(
                f"<div><dt>{clean(name)}</dt><dd>{clean(plain(value))}</dd></div>"
                for name, value in run[key].items()
            )
            parts.append(
                f'<details class="record"><summary>{title} ({len(run[key])})</summary>'
                f'<dl class="pairs">{pairs}</dl></details>'
            )
    return "".join(parts)
