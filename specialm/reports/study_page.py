"""The report of a study: figures as PNG, and one self-contained HTML page with them in it.

    write(rows, record, folder)    folder/report.html and folder/figures/*.png

Rows are those of specialm.reports.study_rows. The record is a dict of which any part may be
missing: title, created, command, versions, machine, settings, seconds as for
specialm.reports.demo_page, and

    models: {method: {params (served), pretrain_params, flops_per_token, tokens_per_parameter}}
    histograms: {"16": {domain or "generic": {entropy, top_fraction}}}, by the number of clusters
    leaks: {domain: counts of the leak check, see specialm.heldout.check}
    cells: {done, planned}: of the grid
"""

import base64
import io
from importlib.resources import files
from pathlib import Path

from specialm.common.files import write_bytes, write_text
from specialm.reports import demo_sections as record_sections
from specialm.reports import study_tables
from specialm.reports.markup import clean, duration, plural
from specialm.reports.study_rows import Study
from specialm.reports.summary import METHODS, label

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
SCRIPT = (
    "addEventListener('beforeprint',()=>document.querySelectorAll('details.record')"
    ".forEach(d=>d.open=true))"
)

# name: (title, how to read the figure)
SECTIONS = {
    "perplexity": ("The study in one table", ""),
    "generic_perplexity": (
        "Generic text",
        "How well each model predicts held-out generic text: lower is better, and "
        "further left is cheaper. On the left against all FLOPs of pretraining, a teacher's "
        "included, on the right against the tokens the model itself was trained on. A method "
        "that pretrains for each domain (SLM-is) stands at the cost of one domain.",
    ),
    "before_fine_tuning": (
        "Specialist domains before fine-tuning",
        "What pretraining alone gives the domains. The "
        "axes are as above; SLM-is has seen no specialist text either, only its cluster histogram.",
    ),
    "after_fine_tuning": (
        "Specialist domains after fine-tuning",
        "The same models after fine-tuning on each "
        "domain's training set, a panel for each size of it. Compare two methods at the same "
        "place on the horizontal axis; the cost of fine-tuning itself is not in it.",
    ),
    "against_set_size": (
        "More specialist text",
        "On the left the perplexity by set size, on the right how much "
        "lower it is than SLM's with the same text, paired by seed: a falling line says that the "
        "method matters less the more specialist text there is.",
    ),
    "total_cost": (
        "Equal total cost",
        "Everything that was paid, pretraining once and specialisation for "
        "each domain: C(N) = generic + N × specialisation. Lower and further left is better. What "
        "is paid for each domain moves right from panel to panel.",
    ),
    "cost_by_domains": (
        "How many domains",
        "The same cost by the number of domains. Dashed lines are methods "
        "that pay their pretraining again for each domain.",
    ),
    "gain_by_domain": (
        "Domain by domain",
        "How much lower the perplexity is than SLM's after fine-tuning, right "
        "of zero is better. Small dots are seeds, large ones their mean. Domains whose text "
        "falls into few clusters, of low entropy, have most to gain from clusters.",
    ),
    "number_of_clusters": (
        "Clusters and experts",
        "The same method with another number of clusters or experts, "
        "before (dashed, hollow) and after fine-tuning (filled).",
    ),
    "models": ("Models", ""),
    "heldout": ("Held-out text", ""),
}


def write(rows, record: dict, folder: Path) -> list[Path]:
    """Writes the page and its figures; gives the paths of all files written.

    Raises:
      UserError: matplotlib is not installed.
    """
    study, folder = Study.of(rows), Path(folder)
    pictures, paths = draw(study, record), []
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in SECTIONS:
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
    from specialm.reports import figures

    drawn = figures.all_of(rows, record.get("settings"))
    return {name: _png(figure) for name, figure in drawn.items()}


def _png(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def html(rows, record: dict, pictures: dict[str, bytes]) -> str:
    """The page as text, with these pictures in it."""
    study = Study.of(rows)
    tables = _tables(study, record)
    sections = []
    for name, (title, reading) in SECTIONS.items():
        content = _figure(title, reading, pictures[name]) if name in pictures else ""
        content += "".join(study_tables.html(t) for t in tables.get(name, ()) if t)
        content += _glossary(study) if name == "perplexity" and content else ""
        sections.append((name, title, content))
    sections.append(("run", "What was run", record_sections.provenance_section(record)))
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{clean(title)}</a>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{clean(title)}</h2>{content}</section>'
        for name, title, content in sections
    )
    style = (files("specialm.reports") / "report.css").read_text(encoding="utf-8") + STYLE
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{clean(record.get('title') or 'Study')}</title><style>{style}</style></head>"
        f"<body><main>{_header(study, record)}<nav>{links}</nav>{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _tables(study: Study, record: dict) -> dict:
    """{section: its tables}, some of them None."""
    t = study_tables
    return {
        "perplexity": [t.main(study)],
        "against_set_size": [t.steps(study)],
        "total_cost": [t.cost_per_billion(study), t.spent(study)],
        "gain_by_domain": [t.domains(study), t.entropies(record)],
        "number_of_clusters": [
            t.choices(study, record.get("settings")),
            t.variants(study),
            t.top_fractions(record),
        ],
        "models": [t.parameters(record)],
        "heldout": [t.leaks(record)],
    }


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
    first, *others = study_tables.findings(study)
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
        "otherwise, and one method counts as better than another only if all seeds say so."
        "</p></div>"
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


def _figure(title: str, reading: str, png: bytes) -> str:
    source = base64.b64encode(png).decode("ascii")
    pixels = int.from_bytes(png[16:20], "big")  # the width: all figures in one scale
    return (
        f'<p>{clean(reading)}</p><figure><img alt="{clean(f"{title}. {reading}")}" '
        f'width="{round(SHOWN * pixels)}" src="data:image/png;base64,{source}"></figure>'
    )


def _glossary(study: Study) -> str:
    terms = "".join(
        f"<dt>{clean(label(m))}</dt><dd>{clean(METHODS[m][1])}</dd>"
        for m in study.methods
        if m in METHODS
    )
    return f'<dl class="glossary">{terms}</dl>' if terms else ""
