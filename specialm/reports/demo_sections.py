"""The report's sections on what went into the run: weights, models, data, stages, settings.

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

REPETITION_NOTE = (
    "How often the planned training draws a window of each cluster, from the most drawn cluster on "
    "the left: with the settings as they are, and without a cap on repetitions. Text repeated more "
    "than about four times is worth less than new text. Both axes are square roots."
)
WEIGHTS_NOTE = (
    "Every window of text belongs to a cluster. A cluster's weight is its share of the domain "
    "divided by its share of the generic corpus; importance sampling draws generic windows by "
    "these weights. The effective sample is how many equally weighted windows the draw is "
    "worth; repetitions say how often a window is seen in the planned training."
)
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


def weights_section(weights: dict | None) -> str:
    """A table of facts on each domain's weights, cluster histograms and coverage curves."""
    rows = list((weights or {}).items())
    if not rows:
        return ""
    table = facts_table("Domain", WEIGHTS, rows)
    return f'<p class="note">{WEIGHTS_NOTE}</p>{table}{_weight_charts(rows)}'


def _weight_charts(rows: list[tuple[str, dict]]) -> str:
    shares, coverages, repeated = [], [], []
    for domain, facts in rows:
        generic_K, specialist_K, weights_K = (
            facts.get(name) for name in ("generic_histogram", "specialist_histogram", "weights")
        )
        if generic_K and specialist_K and weights_K:
            shares.append(charts.histograms(generic_K, specialist_K, weights_K, domain))
            coverages.append(charts.coverage(generic_K, specialist_K, weights_K, domain))
        if facts.get("repetitions"):
            times = facts["uncapped_repetitions"], facts["repetitions"]
            repeated.append(charts.repetitions(*times, domain))
    if not shares:
        return ""
    return (
        f'<h3>Cluster shares</h3><p class="note">{CLUSTER_NOTE}</p>{grid(shares)}'
        f'<h3>Coverage</h3><p class="note">{COVERAGE_NOTE}</p>{grid(coverages)}'
        f"{_repetition_charts(repeated)}"
    )


def _repetition_charts(panels: list[str]) -> str:
    if not panels:
        return ""
    return f'<h3>Repetition</h3><p class="note">{REPETITION_NOTE}</p>{grid(panels)}'


def clusters_section(weights: dict | None) -> str:
    """Sample texts of each domain's top clusters, the first ones open."""
    parts = []
    for domain, facts in (weights or {}).items():
        cards = [_cluster(c) for c in facts.get("top_clusters") or ()]
        if cards:
            parts.append(f"<h3>{clean(domain)}</h3>{_cards(cards)}")
    note = "Windows of the generic corpus, from the top clusters of each domain."
    return f'<p class="note">{note}</p>{"".join(parts)}' if parts else ""


def _cards(cards: list[str]) -> str:
    shown, more = cards[:OPEN_CLUSTERS], cards[OPEN_CLUSTERS:]
    folded = (
        f"<details><summary>{len(more)} more</summary>"
        f'<div class="cards">{"".join(more)}</div></details>'
    )
    return f'<div class="cards">{"".join(shown)}</div>{folded if more else ""}'


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


def models_section(models: dict | None) -> str:
    """Size and cost of each model; unknown keys are shown as they are."""
    shown = {
        "params": ("Parameters", count),
        "flops_per_token": ("FLOPs per token", count),
        "tokens": ("Training tokens", count),
        "tokens_per_parameter": ("Tokens per parameter", number),
    }
    found = dict.fromkeys(key for facts in (models or {}).values() for key in facts)
    keys = [k for k in shown if k in found] + [k for k in found if k not in shown]
    columns = [(k, *shown.get(k, (k.replace("_", " "), plain))) for k in keys]
    rows = [(label(name), facts) for name, facts in (models or {}).items()]
    return facts_table("Model", columns, rows) if rows else ""


SIZES = (
    ("documents", "Documents", count),
    ("windows", "Windows", count),
    ("tokens", "Tokens", count),
    ("bytes", "Megabytes", lambda value: number(value / 1e6)),
)


def data_section(data: dict | None) -> str:
    """Windows, tokens and bytes of the generic corpus and of each domain's splits."""
    data = data or {}
    rows = [("generic", data["generic"])] if data.get("generic") else []
    for domain, splits in (data.get("domains") or {}).items():
        rows += [(f"{domain}, {split}", facts) for split, facts in splits.items()]
    return facts_table("Windows of text", SIZES, rows) if rows else ""


def corpora_section(corpora: list[dict] | None) -> str:
    """The corpora with their licences."""
    columns = (("role", "Role", plain), SIZES[0], SIZES[3], ("licence", "Licence", plain))
    rows = [(corpus.get("name", "–"), corpus) for corpus in corpora or ()]
    return f"<h3>Corpora</h3>{facts_table('Corpus', columns, rows)}" if rows else ""


Stages = list[tuple[str, dict]]  # (title, stage)


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
    groups: dict[str, Stages] = {}
    for title, stage in stages:
        groups.setdefault(title.split("/")[0], []).append((title, stage))
    note = _stages_note(run, stages)
    parts = [_time_table([_group_row(*group) for group in groups.items()])]
    parts += [f'<p class="note">{note}</p>'] if note else []
    parts += [_all_stages(stages)] if len(groups) < len(stages) else []
    return "".join(parts)


def _group_row(group: str, members: Stages) -> tuple[str, str | None, str, float]:
    """(title, detail, tag, seconds) of stages that stand together."""
    detail = plural(len(members), "stage") if len(members) > 1 else members[0][1].get("detail")
    reused = sum(bool(stage.get("reused")) for _, stage in members)
    tag = "" if not reused else "reused" if reused == len(members) else f"{reused} reused"
    title = group if len(members) > 1 else members[0][0]
    return title, detail, tag, _seconds(members)


def _stages_note(run: dict, stages: Stages) -> str:
    note = ""
    earlier = [(title, stage) for title, stage in stages if stage.get("reused")]
    if earlier:
        note += (
            f"Reused stages were finished by an earlier run; they are "
            f"{duration(_seconds(earlier))} of the total. "
        )
    if run.get("seconds") is not None:
        note += f"This run took {duration(run['seconds'])}."
    return note


def _all_stages(stages: Stages) -> str:
    columns = (
        ("seconds", "Time", duration),
        ("reused", "Reused", lambda yes: "yes" * yes),
        ("detail", "", plain),
    )
    return (
        f"<details><summary>all {len(stages)} stages</summary>"
        f"{facts_table('Stage', columns, stages)}</details>"
    )


def _seconds(stages: Stages) -> float:
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
