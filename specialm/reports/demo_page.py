"""The report of a demo: what stands on its page, from the run record alone (demo_run.py).

A new figure or table is a function in demo_figures.py, weight_figures.py or demo_tables.py and its
name in `SECTIONS`.
"""

from collections.abc import Callable
from pathlib import Path

from specialm.reports import demo_figures, demo_tables, page, parts, weight_figures
from specialm.reports.demo_run import DemoRun
from specialm.reports.parts import Cards, Key, Part, Provenance, Report
from specialm.reports.summary import BASE, answer, label, number, question, table
from specialm.reports.tables import DASH
from specialm.reports.words import cut, duration, moment, percent, plural

__all__ = ["html", "report", "table", "write"]


def key(run: DemoRun) -> Key | None:
    """What the methods are."""
    return parts.key(run.summary.methods)


def clusters(run: DemoRun) -> Cards | None:
    """Sample texts of each domain's top clusters."""
    groups = {
        domain: [_card(cluster) for cluster in facts.get("top_clusters") or ()]
        for domain, facts in run.weights.items()
    }
    groups = {domain: cards for domain, cards in groups.items() if cards}
    return Cards(groups) if groups else None


def _card(cluster: dict) -> dict:
    generic, domain = cluster.get("generic_probability"), cluster.get("specialist_probability")
    shares, weight = "", cluster.get("weight")
    if generic is not None and domain is not None:
        shares = f"{percent(generic)} of generic, {percent(domain)} of the domain"
    return {
        "name": f"cluster {cluster.get('cluster', DASH)}",
        "weight": f"weight {number(weight, 1)}" if weight is not None else "",
        "shares": shares,
        "samples": [cut(text) for text in cluster.get("samples") or ()],
    }


def provenance(run: DemoRun) -> Provenance | None:
    """Where, how and with what it was run."""
    return parts.provenance(run.record)


# {name: (title, functions)}: what stands on the page, in its order.
SECTIONS: dict[str, tuple[str, tuple[Callable[[DemoRun], Part | None], ...]]] = {
    "results": ("Perplexity by domain", (demo_tables.results, key, demo_figures.before_and_after)),
    "difference": (
        f"Difference from {label(BASE)}",
        (demo_figures.differences, demo_tables.changes),
    ),
    "curves": ("Learning curves", (demo_figures.pretraining, demo_figures.fine_tuning)),
    "weights": (
        "Importance weights",
        (
            demo_tables.weights,
            demo_tables.draws,
            weight_figures.cluster_shares,
            weight_figures.coverage,
            weight_figures.repetition,
        ),
    ),
    "clusters": ("What the top clusters hold", (clusters,)),
    "models": ("Models", (demo_tables.models,)),
    "data": ("Data", (demo_tables.windows, demo_tables.sources, demo_tables.corpora)),
    "run": ("What was run", (demo_tables.stages, demo_tables.all_stages, provenance)),
}


def report(record: dict) -> Report:
    """The report of a run record."""
    run = DemoRun(record)
    return Report(
        title=str(record.get("title") or "Report"),
        facts=_facts(run),
        names=run.names,
        question=question(run.summary),
        answer=answer(run.summary),
        sections=parts.sections(SECTIONS, lambda function: function(run)),
    )


def _facts(run: DemoRun) -> list[str]:
    found = moment(run.record.get("created"))
    for of, noun in (
        (run.summary.domains, "domain"),
        (run.summary.methods, "method"),
        (run.summary.seeds, "seed"),
    ):
        found += [plural(len(of), noun)] if of else []
    stages = run.record.get("stages") or []
    if stages:
        seconds = sum(stage.get("seconds") or 0 for stage in stages)
        found.append(f"{duration(seconds)} in all stages")
    return found


def html(record: dict) -> str:
    """The page of a run record as text."""
    return page.html(report(record))


def write(record: dict, path: Path) -> None:
    """Writes the page of a run record as one HTML file without any outside reference."""
    page.write_page(report(record), Path(path))
