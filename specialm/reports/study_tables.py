"""The tables of a study as data, rendered as HTML or Markdown; and its findings in words.

Every table function returns a `Table`, or None when the rows (or the record) have nothing for it.
The layouts are those of [G] (methods.md sections 2 and 4), so that the two can be laid side by
side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specialm.evaluation import cost
from specialm.reports.markup import clean, duration, percent
from specialm.reports.study_findings import Finding, findings, flops_text
from specialm.reports.study_rows import FINETUNED, LARGE, PRETRAINED, Study
from specialm.reports.summary import GENERIC, MACRO, cell, count, label, number, spread

__all__ = [
    "Best",
    "Finding",
    "Table",
    "choices",
    "cost_per_billion",
    "domains",
    "entropies",
    "findings",
    "html",
    "main",
    "markdown",
    "parameters",
    "spent",
    "steps",
    "top_fractions",
]

BILLION = 1e9


class Best(str):
    """A cell that stands out."""


@dataclass(frozen=True)
class Table:
    """Texts in rows; a row of one text is the heading of the rows that follow."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def html(table: Table) -> str:
    """The table for the page, its title and note before it."""
    head = "".join(f"<th>{clean(text)}</th>" for text in table.header)
    body = []
    for name, *texts in table.rows:
        if not texts:
            body.append(
                f'<tr class="phase"><th colspan="{len(table.header)}">{clean(name)}</th></tr>'
            )
            continue
        cells = "".join(f"<td>{_html_cell(text)}</td>" for text in texts)
        body.append(f'<tr><th scope="row">{clean(name)}</th>{cells}</tr>')
    return (
        f'<h3>{clean(table.title)}</h3><p class="note">{clean(table.note)}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _html_cell(text: str) -> str:
    mean, plus_minus, sd = text.partition(" ± ")
    mean = f"<b>{clean(mean)}</b>" if isinstance(text, Best) else clean(mean)
    return f'{mean} <span class="sd">± {clean(sd)}</span>' if plus_minus else mean


def markdown(table: Table) -> str:
    """The table for a text file, readable as plain text too."""
    lines = [[_line_text(text) for text in table.header]]
    for row in table.rows:
        texts = [
            f"**{_line_text(t)}**" if isinstance(t, Best) or len(row) == 1 else _line_text(t)
            for t in row
        ]
        lines.append(texts + [""] * (len(table.header) - len(row)))
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *["-" * (w - 1) + ":" for w in widths[1:]]])
    rows = [
        f"| {line[0].ljust(widths[0])} | "
        + " | ".join(text.rjust(w) for text, w in zip(line[1:], widths[1:], strict=True))
        + " |"
        for line in lines
    ]
    return "\n".join([f"### {table.title}", "", table.note, "", *rows, ""])


def _line_text(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def parameters(record: dict) -> Table | None:
    """Parameters in pretraining and at inference, FLOPs per training token."""
    columns = (
        ("pretrain_params", "Parameters in pretraining"),
        ("params", "Parameters at inference"),
        ("flops_per_token", "FLOPs per token"),
        ("tokens_per_parameter", "Tokens per parameter"),
    )
    models = record.get("models") or {}
    columns = [
        (k, title)
        for k, title in columns
        if any(facts.get(k) is not None for facts in models.values())
    ]
    rows = [
        [label(name), *(_or_dash(facts.get(k), count) for k, _ in columns)]
        for name, facts in models.items()
    ]
    note = "FLOPs of training on one token, forward and backward; tokens at the largest budget."
    return _table("Sizes of the models", note, ["", *(t for _, t in columns)], rows)


def cost_per_billion(rows) -> Table | None:
    """Cost of training on 1B tokens: from FLOPs at a stated throughput, and as measured."""
    study = Study.of(rows)
    lines = []
    for method in study.methods:
        costs = _mean_costs(study, method)
        texts = []
        for part in costs or ():
            scale = BILLION / part.tokens if part.tokens else 0
            texts += [
                flops_text(scale * part.flops) if scale else "–",
                f"{cost.gpu_hours(scale * part.flops):.3g}" if scale else "–",
                f"{scale * part.device_seconds / 3600:.3g}"
                if scale and part.device_seconds
                else "–",
            ]
        lines += [[label(method), *texts]] if texts else []
    hours = f"{cost.UTILISATION * cost.A100_FLOPS:.3g} FLOP/s"
    note = (
        f"GPU hours are the FLOPs at {hours}, 40% of an A100's peak; device hours were "
        "measured on this study's machine. A method without a generic part pretrains for "
        "each domain: that is in its specialisation. Teachers are included."
    )
    header = [
        f"{part}, {unit}"
        for part in ("Generic training", "Specialisation")
        for unit in ("FLOPs", "GPU hours", "device hours")
    ]
    return _table("Cost of 1B tokens", note, ["", *header], lines)


def _mean_costs(study: Study, method: str):
    """The sum over budgets and sizes, whose ratios are those of a token."""
    sums = None
    for budget in study.budgets_of_any(method):
        for size in study.sizes:
            costs = study.costs(method, budget, size)
            if costs:
                sums = (
                    costs
                    if sums is None
                    else tuple(a + b for a, b in zip(sums, costs, strict=True))
                )
    return sums


def spent(rows) -> Table | None:
    """What was spent at the reported budget: once, and for one domain by set size."""
    study = Study.of(rows)
    lines = []
    for method in study.methods:
        costs = {size: study.costs(method, study.budget, size) for size in study.sizes}
        known = [c for c in costs.values() if c]
        if known:
            flops = [flops_text(known[0][0].flops)] + [
                flops_text(c[1].flops) if c else "–" for c in costs.values()
            ]
            seconds = [_time(known[0][0])] + [_time(c[1]) if c else "–" for c in costs.values()]
            lines.append([label(method), *flops, *seconds])
    parts = ["once", *(f"a domain of {count(size)}" for size in study.sizes)]
    note = (
        f"At {_tokens(study.budget)}: pretraining paid once, then specialisation to one "
        "domain by the size of its training set in tokens. Mean over domains and seeds; time "
        "is measured device time."
    )
    return _table(
        "Cost spent",
        note,
        ["", *(f"FLOPs, {p}" for p in parts), *(f"Time, {p}" for p in parts)],
        lines,
    )


def _time(part: cost.Cost) -> str:
    return duration(part.device_seconds) if part.device_seconds else "–"


def main(rows) -> Table | None:
    """Generic and macro perplexity by budget and method: the study in one table."""
    study = Study.of(rows)
    lines = []
    for budget in [*study.budgets, 0]:
        methods = [m for m in study.methods if budget in study.budgets_of_any(m)]
        cells = {
            m: [
                study.cell(m, GENERIC, PRETRAINED, budget),
                study.cell(m, MACRO, PRETRAINED, budget),
                *(study.cell(m, MACRO, FINETUNED, budget, size) for size in study.sizes),
            ]
            for m in methods
        }
        group = _with_best({m: c for m, c in cells.items() if any(c)})
        title = _tokens(budget) if budget else "no generic pretraining"
        lines += [[title], *group] if group else []
    note = (
        f"Perplexity on held-out text{_over(study)}; lower is better, the best small model of "
        "a column bold. Macro: exp of the mean over domains of the loss per token. A budget "
        "is what so many tokens cost with SLM; larger models see fewer for it. Models "
        "made for one domain: generic is averaged over them; without fine-tuning they are "
        "those of the smallest set."
    )
    header = [
        "",
        "Generic",
        "Macro, no fine-tuning",
        *(f"Macro, {count(size)} tokens" for size in study.sizes),
    ]
    return _table("Perplexity", note, header, lines)


def domains(rows) -> Table | None:
    """Perplexity of every domain after fine-tuning, by set size, at the reported budget."""
    study = Study.of(rows)
    lines, columns = [], [*study.domains, MACRO]
    for size in study.sizes:
        cells = {
            m: [study.cell(m, d, FINETUNED, study.budget, size) for d in columns]
            for m in study.methods
        }
        group = _with_best({m: c for m, c in cells.items() if any(c)})
        lines += [[f"{count(size)} specialist tokens"], *group] if group else []
    note = (
        f"Perplexity after fine-tuning at {_tokens(study.budget)}{_over(study)}; the best "
        "small model of a column bold."
    )
    return _table("Perplexity by domain", note, ["", *columns], lines)


def _with_best(cells: dict) -> list[list[str]]:
    """Rows of a group of methods, the lowest small model of each column marked."""
    rows = [[label(m), *(_or_dash(c, spread) for c in found)] for m, found in cells.items()]
    for j in range(max(map(len, cells.values()), default=0)):
        means = {
            i: found[j].mean
            for i, (m, found) in enumerate(cells.items())
            if found[j] and m not in LARGE
        }
        if len(means) > 1:
            best = min(means, key=means.get)
            rows[best][j + 1] = Best(rows[best][j + 1])
    return rows


def choices(rows, settings: dict | None = None) -> Table | None:
    """Ways to choose the expert: perplexity, and cost as a multiple of one fine-tuning."""
    study = Study.of(rows)
    lines = []
    for (method, budget, size), variants in study.variants("expert.choice").items():
        arms = {(settings or {}).get("expert.choice", "main arm"): "", **variants}
        costs = {name: study.costs(method, budget, size, v) for name, v in arms.items()}
        costs = {name: c[1].flops for name, c in costs.items() if c}
        once = costs.get("frequent", min(costs.values(), default=0))
        group = [
            [
                name,
                _or_dash(study.cell(method, MACRO, FINETUNED, budget, size, v), spread),
                f"{number(costs[name] / once)}×" if once and name in costs else "–",
            ]
            for name, v in arms.items()
            if study.cell(method, MACRO, FINETUNED, budget, size, v)
        ]
        lines += (
            [[f"{label(method)}, {_tokens(budget)}, {count(size)} specialist tokens"], *group]
            if group
            else []
        )
    note = (
        "Macro perplexity after fine-tuning; the cost of specialisation is relative to "
        "taking the most frequent cluster's expert, which is one fine-tuning."
    )
    return _table("Choice of the expert", note, ["Choice", "Perplexity", "Cost"], lines)


def variants(rows) -> Table | None:
    """Every variant before and after fine-tuning, next to the arm it is a variant of."""
    study = Study.of(rows)
    lines = []
    for method, variant, budget, size in study.all_variants():
        seeds = study.values(method, budget=budget, size=size, variant=variant)
        at = [
            study.cell(method, phase=phase, budget=budget, size=size, variant=variant)
            for phase in (PRETRAINED, FINETUNED)
        ]
        main = study.values(method, budget=budget, size=size)
        main = cell([main[seed] for seed in seeds if seed in main])
        lines.append([f"{label(method)}, {variant}", *(_or_dash(c, spread) for c in (*at, main))])
    return _table(
        "Variants",
        "One setting changed, with the smallest specialist set and the same "
        "seeds; macro perplexity.",
        ["", "No fine-tuning", "After fine-tuning", "The arm itself, after"],
        lines,
    )


def leaks(record: dict) -> Table | None:
    """Held-out windows that are near-duplicates of windows that were trained on."""
    rows = []
    for name, found in (record.get("leaks") or {}).items():
        for source, against in found["against"].items():
            if against:
                rows.append(
                    [
                        f"{name}, against {source} text",
                        f"{found['checked']:,}",
                        f"{against['trained']:,}",
                        f"{against['leaked']:,}",
                        f"{against['covered']:,}",
                    ]
                )
    return _table(
        "Leak check",
        "Near-duplicates: at least 0.8 of the runs of five words of both "
        "windows are shared; covered: that share of a held-out window's runs occurs in "
        "training windows taken together.",
        ["Held-out windows of", "Checked", "Trained on", "Leaked", "Covered"],
        rows,
    )


def top_fractions(record: dict) -> Table | None:
    """Share of a domain's windows in its most frequent cluster, by the number of clusters."""
    return _histograms(
        record,
        "top_fraction",
        percent,
        "Share of the most frequent cluster",
        "How much of each domain's text lies in its most frequent cluster, by the "
        "number of clusters.",
    )


def entropies(record: dict) -> Table | None:
    """Entropy of each domain's cluster histogram, by the number of clusters."""
    return _histograms(
        record,
        "entropy",
        lambda value: number(value, 2),
        "Entropy in nats",
        "Of each domain's histogram over the clusters: a low one says the domain "
        "is found in few clusters, where clusters help most.",
    )


def _histograms(record: dict, field: str, show: Callable, title: str, note: str):
    histograms = record.get("histograms") or {}
    ks = sorted(histograms, key=float)
    names = dict.fromkeys(name for k in ks for name in histograms[k])
    rows = [
        [name, *(_or_dash((histograms[k].get(name) or {}).get(field), show) for k in ks)]
        for name in sorted(names, key=lambda name: name == GENERIC)
    ]
    rows = [row for row in rows if set(row[1:]) != {"–"}]
    return _table(title, note, ["Domain", *(f"{k} clusters" for k in ks)], rows)


def steps(rows) -> Table | None:
    """Fine-tuning steps: the best one and how many were run, by method and set size."""
    study = Study.of(rows)
    lines = []
    for method in study.methods:
        texts = [_steps_text(study, method, size) for size in study.sizes]
        lines += [[label(method), *texts]] if set(texts) != {"–"} else []
    note = (
        f"Best step of how many were run at {_tokens(study.budget)}, mean over domains and "
        "seeds. A best step near the last one says that more steps would have helped."
    )
    return _table(
        "Fine-tuning steps", note, ["", *(f"{count(size)} tokens" for size in study.sizes)], lines
    )


def _steps_text(study: Study, method: str, size: int) -> str:
    means = []
    for field in ("best_step", "steps"):
        values = [
            v
            for domain in study.domains
            for v in study.values(
                method, domain, FINETUNED, study.budget, size, field=field
            ).values()
        ]
        means.append(cell(values))
    return " of ".join(number(c.mean, 0) if c else "?" for c in means) if any(means) else "–"


def _table(title: str, note: str, header: Sequence[str], rows: list) -> Table | None:
    return Table(title, note, list(header), rows) if rows and len(header) > 1 else None


def _or_dash(value, show: Callable) -> str:
    return "–" if value is None else show(value)


def _tokens(budget: int | None) -> str:
    return f"{count(budget)} generic tokens" if budget else "no generic tokens"


def _over(study: Study) -> str:
    n = len(study.seeds)
    return f", mean ± standard deviation over {n} seeds" if n > 1 else ""
