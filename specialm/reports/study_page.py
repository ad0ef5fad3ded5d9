"""The report of a study: figures as PNG, and one self-contained HTML page with them in it.

    write(rows, record, folder)    folder/report.html and folder/figures/*.png

Rows are those of specialm.reports.study_rows. The record is a dict of which any part may be
missing: title, created, command, versions, machine, settings, seconds as for
specialm.reports.demo_page, and

    models: {method: {params (served), pretrain_params, flops_per_token, tokens_per_parameter}}
    histograms: {"16": {domain or "generic": {entropy, top_fraction}}}, by the number of clusters
    contamination: {domain: counts of the check, see specialm.workflows.heldout.check}
    cells: {done, planned}: of the grid
"""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from specialm import methods
from specialm.common.files import write_bytes, write_text
from specialm.reports import demo_sections as record_sections
from specialm.reports import record_tables, study_tables, tables
from specialm.reports.markup import clean, duration, page, plural
from specialm.reports.study_findings import findings
from specialm.reports.study_rows import Study
from specialm.reports.tables import Table

__all__ = ["html", "write"]

DOTS_PER_INCH = 150
SHOWN = 0.72  # pixels of the page for one of the figure: the widest fill the column
QUESTION = (
    "Which small model serves specialist domains best, given its generic pretraining budget, "
    "the size of the specialist sets and the number of domains?"
)
MARKS = {True: "holds", False: "does not hold", None: "open"}
STYLE = """
figure { margin: 16px 0; padding: 12px; background: #ffffff; border: 1px solid var(--rule);
  border-radius: 8px; break-inside: avoid }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto }
.answer ul { margin: 0 0 12px; padding: 0; list-style: none }
.answer li { display: grid; grid-template-columns: 104px 1fr; gap: 12px; margin: 0 0 8px;
  align-items: baseline; break-inside: avoid }
.answer .tag { text-align: center; background: var(--page) }
.answer .no { color: var(--ink); border-color: var(--ink) }
.answer .yes { color: var(--specialist); border-color: var(--specialist) }
th[scope="row"] { white-space: nowrap }
@media (max-width: 640px) { .answer li { grid-template-columns: 1fr; gap: 2px }
  .answer .tag { justify-self: start } }
@media print { figure { border: 0; padding: 0 } .scroll table { font-size: 7.5pt }
  th, td { padding-right: 7px } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: perhaps a figure, which `reading` says how to read, then tables."""

    title: str
    reading: str = ""


def sections() -> dict[str, Section]:
    """{name: section} in the order of the page; those of figures have the figures' names.

    Raises:
      UserError: matplotlib is not installed.
    """
    from specialm.reports.figures import FIGURES

    return {
        "perplexity": Section("The study in one table"),
        **{name: Section(figure.title, figure.reading) for name, figure in FIGURES.items()},
        "models": Section("Models"),
        "heldout": Section("Held-out text"),
    }


def write(rows, record: dict, folder: Path) -> list[Path]:
    """Writes the page and its figures; gives the paths of all files written.

    Raises:
      UserError: matplotlib is not installed.
    """
    study, folder = Study.of(rows, record.get("settings")), Path(folder)
    pictures, paths = draw(study, record), []
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in sections():
        path = folder / "figures" / f"{name}.png"
        if name in pictures:
            write_bytes(path, pictures[name])
            paths.append(path)
        else:
            path.unlink(missing_ok=True)  # of an earlier report in this folder
    write_text(folder / "report.html", html(study, record, pictures))
    return [folder / "report.html", *paths]


def draw(rows, record: dict) -> dict[str, bytes]:
    """{name: PNG} of the figures that the rows have something for."""
    from specialm.reports.figures import all_of

    drawn = all_of(rows, record.get("settings"))
    return {name: _png(figure) for name, figure in drawn.items()}


def _png(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def html(rows, record: dict, pictures: dict[str, bytes]) -> str:
    """The page as text, with these pictures in it."""
    study = Study.of(rows, record.get("settings"))
    parts = [
        (name, section.title, _content(name, section, study, record, pictures))
        for name, section in sections().items()
    ]
    parts.append(("run", "What was run", record_sections.provenance_section(record)))
    title = str(record.get("title") or "Study")
    return page(title, _header(study, record), parts, STYLE)


def _content(
    name: str, section: Section, study: Study, record: dict, pictures: dict[str, bytes]
) -> str:
    """The section's figure and tables, "" where there are none."""
    parts = []
    if name in pictures:
        parts.append(_figure(section, pictures[name]))
    parts += [tables.html(table) for table in _tables(name, study, record) if table]
    if name == "perplexity" and parts:
        parts.append(_glossary(study))
    return "".join(parts)


def _tables(name: str, study: Study, record: dict) -> list[Table | None]:
    """The section's tables, some of them None."""
    of_rows = {
        "perplexity": [study_tables.main],
        "against_set_size": [study_tables.steps],
        "total_cost": [study_tables.cost_per_billion, study_tables.spent],
        "gain_by_domain": [study_tables.domains],
        "number_of_clusters": [study_tables.choices, study_tables.variants],
    }
    of_record = {
        "gain_by_domain": [record_tables.entropies],
        "number_of_clusters": [record_tables.top_fractions],
        "models": [record_tables.parameters],
        "heldout": [record_tables.contamination],
    }
    return [
        *(table(study) for table in of_rows.get(name, ())),
        *(table(record) for table in of_record.get(name, ())),
    ]


def _header(study: Study, record: dict) -> str:
    facts = [str(record["created"]).replace("T", " ")[:16]] if record.get("created") else []
    for found, noun in (
        (study.methods, "method"),
        (study.budgets, "generic budget"),
        (study.sizes, "specialist set size"),
        (study.domains, "domain"),
        (study.seeds, "seed"),
    ):
        facts += [plural(len(found), noun)] if found else []
    facts += [duration(record["seconds"])] if record.get("seconds") is not None else []
    return (
        f"<header><h1>{clean(record.get('title') or 'Study')}</h1>"
        f'<p class="facts">{" · ".join(clean(fact) for fact in facts)}</p>'
        f"{_answer(study)}{_gaps(study, record)}</header>"
    )


def _answer(study: Study) -> str:
    if not study.methods:
        return '<p class="said">There are no results yet.</p>'
    first, *others = findings(study)
    items = "".join(
        f'<li><span class="tag {_KIND[finding.holds]}">{MARKS[finding.holds]}</span>'
        f"<span>{clean(finding.sentence)}</span></li>"
        for finding in others
    )
    return (
        f'<div class="answer"><p class="asked">{clean(QUESTION)}</p>'
        f'<p class="said">{clean(first.sentence)}</p><ul>{items}</ul>'
        '<p class="note">The marks say whether what arXiv 2402.01093 found at its scale holds in '
        "these rows; perplexity is macro-averaged over the domains, after fine-tuning unless said "
        "otherwise, and one method counts as better than another only if all seeds say so. "
        "± and error bars are the sample standard deviation over seeds.</p></div>"
    )


_KIND = {True: "yes", False: "no", None: "open"}


def _gaps(study: Study, record: dict) -> str:
    """What is missing, so that nobody takes a part for the whole."""
    cells, parts = record.get("cells") or {}, []
    done, planned = cells.get("done"), cells.get("planned")
    if done is not None and planned is not None and done < planned:
        parts.append(f"The study is incomplete: {done:,} of {plural(planned, 'cell')} are done.")
    if study.left_out:
        parts.append(
            f"{plural(study.left_out, 'macro average')} over only some of the domains "
            f"{'was' if study.left_out == 1 else 'were'} left out."
        )
    return f'<p class="note">{clean(" ".join(parts))}</p>' if parts else ""


def _figure(section: Section, png: bytes) -> str:
    source = base64.b64encode(png).decode("ascii")
    pixels = int.from_bytes(png[16:20], "big")  # the width: all figures in one scale
    alternative = clean(f"{section.title}. {section.reading}")
    return (
        f'<p>{clean(section.reading)}</p><figure><img alt="{alternative}" '
        f'width="{round(SHOWN * pixels)}" src="data:image/png;base64,{source}"></figure>'
    )


def _glossary(study: Study) -> str:
    known = [record for record in map(methods.find, study.methods) if record]
    terms = "".join(f"<dt>{clean(m.label)}</dt><dd>{clean(m.description)}</dd>" for m in known)
    return f'<dl class="glossary">{terms}</dl>' if terms else ""
