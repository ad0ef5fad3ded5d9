"""The report of a study: what stands on its page, from its rows and its record.

Rows are those of specialm.reports.study_rows. The record is a dict of which any part may be
missing: title, created, command, versions, machine, settings, seconds as for
specialm.reports.demo_run, and

    models: {method: {params (served), pretrain_params, flops_per_token, tokens_per_parameter}}
    histograms: {"16": {domain or "generic": {entropy, top_fraction}}}, by the number of clusters
    contamination: {domain: counts of the check, see specialm.workflows.heldout.check}
    cells: {done, planned}: of the grid

A new figure is a function in study_figures.py or cost_figures.py and its name in `SECTIONS`, a new
table one in study_tables.py (of the rows) or record_tables.py (of the record).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from specialm.reports import (
    cost_figures,
    equal_cost,
    page,
    parts,
    record_tables,
    study_figures,
    study_tables,
)
from specialm.reports.parts import Key, Part, Report
from specialm.reports.study_findings import findings
from specialm.reports.study_rows import Study
from specialm.reports.words import duration, moment, plural

__all__ = ["html", "report", "write"]

QUESTION = (
    "Which small model serves specialist domains best, given its generic pretraining budget, "
    "the size of the specialist sets and the number of domains?"
)
REMARK = (
    "The marks say whether what arXiv 2402.01093 found at its scale holds in these rows; "
    "perplexity is macro-averaged over the domains, after fine-tuning unless said otherwise, and "
    "one method counts as better than another only if all seeds say so. ± and error bars are the "
    "sample standard deviation over seeds."
)
MARKS = {True: ("yes", "holds"), False: ("no", "does not hold"), None: ("open", "open")}


def key(study: Study) -> Key | None:
    """What the methods are."""
    return parts.key(study.methods)


Function = Callable[..., Part | None]
# {name: (title, functions)}: what stands on the page, in its order.
SECTIONS: dict[str, tuple[str, tuple[Function, ...]]] = {
    "perplexity": ("The study in one table", (study_tables.main, key)),
    "generic_perplexity": ("Generic text", (study_figures.generic_perplexity,)),
    "before_fine_tuning": (
        "Specialist domains before fine-tuning",
        (study_figures.before_fine_tuning,),
    ),
    "after_fine_tuning": (
        "Specialist domains after fine-tuning",
        (study_figures.after_fine_tuning,),
    ),
    "against_set_size": (
        "More specialist text",
        (study_figures.against_set_size, study_tables.steps),
    ),
    "total_cost": (
        "Equal total cost",
        (
            cost_figures.total_cost,
            equal_cost.equal_total_cost,
            study_tables.cost_per_billion,
            study_tables.spent,
        ),
    ),
    "cost_by_domains": ("How many domains", (cost_figures.cost_by_domains,)),
    "gain_by_domain": (
        "Domain by domain",
        (study_figures.gain_by_domain, study_tables.domains, record_tables.entropies),
    ),
    "number_of_clusters": (
        "Clusters and experts",
        (
            study_figures.number_of_clusters,
            study_tables.choices,
            study_tables.variants,
            record_tables.top_fractions,
        ),
    ),
    "models": ("Models", (record_tables.parameters,)),
    "heldout": ("Held-out text", (record_tables.contamination,)),
    "run": ("What was run", (parts.provenance,)),
}
OF_RECORD = {record_tables.__name__, parts.__name__}  # their functions take the record


def report(rows: Iterable[dict] | Study, record: dict) -> Report:
    """The report of a study's rows and record."""
    study = Study.of(rows, record.get("settings"))
    first, *others = findings(study) if study.methods else (None,)
    return Report(
        title=str(record.get("title") or "Study"),
        facts=_facts(study, record),
        names=study.methods,
        question=QUESTION,
        answer=[first.sentence] if first else [],
        findings=[(*MARKS[finding.holds], finding.sentence) for finding in others],
        remark=REMARK,
        warning=_missing(study, record),
        sections=parts.sections(
            SECTIONS,
            lambda function: function(record if function.__module__ in OF_RECORD else study),
        ),
    )


def _facts(study: Study, record: dict) -> list[str]:
    found = moment(record.get("created"))
    for of, noun in (
        (study.methods, "method"),
        (study.budgets, "generic budget"),
        (study.sizes, "specialist set size"),
        (study.domains, "domain"),
        (study.seeds, "seed"),
    ):
        found += [plural(len(of), noun)] if of else []
    return found + ([duration(record["seconds"])] if record.get("seconds") is not None else [])


def _missing(study: Study, record: dict) -> str:
    """What is missing, so that nobody takes a part for the whole."""
    cells, said = record.get("cells") or {}, []
    done, planned = cells.get("done"), cells.get("planned")
    if done is not None and planned is not None and done < planned:
        said.append(f"The study is incomplete: {done:,} of {plural(planned, 'cell')} are done.")
    if study.left_out:
        said.append(
            f"{plural(study.left_out, 'macro average')} over only some of the domains "
            f"{'was' if study.left_out == 1 else 'were'} left out."
        )
    return " ".join(said)


def html(rows: Iterable[dict] | Study, record: dict) -> str:
    """The page as text."""
    return page.html(report(rows, record))


def write(rows: Iterable[dict] | Study, record: dict, path: Path) -> None:
    """Writes the page as one HTML file without any outside reference."""
    page.write_page(report(rows, record), Path(path))
