"""The tables of a study's rows.

Every function returns a `Table`, or None where the rows have nothing for it. The layouts are those
of arXiv 2402.01093, so that the two can be laid side by side.
"""

from collections.abc import Mapping

from specialm.evaluation import cost
from specialm.methods import BASE
from specialm.reports.study_findings import flops_text
from specialm.reports.study_rows import FINETUNED, PRETRAINED, Study, is_large
from specialm.reports.summary import (
    GENERIC,
    MACRO,
    Cell,
    cell,
    count,
    label,
    number,
    spread,
    tokens_text,
)
from specialm.reports.tables import DASH, Best, Table, or_dash, table_of
from specialm.reports.words import duration

BILLION = 1e9


def cost_per_billion(rows) -> Table | None:
    """Cost of training on 1B tokens: from FLOPs at a stated throughput, and as measured."""
    study = Study.of(rows)
    costs = {method: _summed_costs(study, method) for method in study.methods}
    lines = [
        [label(method), *(text for part in parts for text in _per_billion(part))]
        for method, parts in costs.items()
        if parts
    ]
    rate = f"{cost.UTILISATION * cost.A100_FLOPS:.3g} FLOP/s"
    note = (
        f"GPU hours are the FLOPs at {rate}, 40% of an A100's peak; device hours were "
        "measured on this study's machine. A method without a generic part pretrains for "
        "each domain: that is in its specialisation. Teachers are included."
    )
    header = [
        f"{part}, {unit}"
        for part in ("Generic training", "Specialisation")
        for unit in ("FLOPs", "GPU hours", "device hours")
    ]
    return table_of("Cost of 1B tokens", note, ["", *header], lines)


def _summed_costs(study: Study, method: str) -> cost.Costs | None:
    """The sum over budgets and sizes, whose ratios are those of a token."""
    found = [
        costs
        for budget in study.budgets_of_any(method)
        for size in study.sizes
        if (costs := study.costs(method, budget, size))
    ]
    if not found:
        return None
    generic, special = zip(*found, strict=True)
    return sum(generic, cost.Cost()), sum(special, cost.Cost())


def _per_billion(part: cost.Cost) -> list[str]:
    """FLOPs, GPU hours and device hours of 1B tokens."""
    if not part.tokens:
        return [DASH] * 3
    scale = BILLION / part.tokens
    hours = scale * part.device_seconds / 3600
    return [
        flops_text(scale * part.flops),
        f"{cost.gpu_hours(scale * part.flops):.3g}",
        f"{hours:.3g}" if hours else DASH,
    ]


def spent(rows) -> Table | None:
    """What was spent at the reported budget: once, and for one domain by set size."""
    study = Study.of(rows)
    lines = []
    for method in study.methods:
        costs = [study.costs(method, study.budget, size) for size in study.sizes]
        known = [c for c in costs if c]
        if known:
            parts = [known[0][0], *(c and c[1] for c in costs)]
            flops = [or_dash(part and part.flops, flops_text) for part in parts]
            lines.append([label(method), *flops, *map(_time, parts)])
    parts_names = ["once", *(f"a domain of {count(size)}" for size in study.sizes)]
    note = (
        f"At {_generic(study.budget)}: pretraining paid once, then specialisation to one "
        "domain by the size of its training set in tokens. Mean over domains and seeds; time "
        "is measured device time."
    )
    header = [f"{what}, {name}" for what in ("FLOPs", "Time") for name in parts_names]
    return table_of("Cost spent", note, ["", *header], lines)


def _time(part: cost.Cost | None) -> str:
    return duration(part.device_seconds) if part and part.device_seconds else DASH


def main(rows) -> Table | None:
    """Generic and macro perplexity by budget and method: the study in one table."""
    study = Study.of(rows)
    lines = []
    for budget in [*study.budgets, 0]:
        group = _with_best(_main_cells(study, budget))
        title = _generic(budget) if budget else "no generic pretraining"
        lines += [[title], *group] if group else []
    note = (
        f"Perplexity on held-out text{_over(study)}; lower is better, the best small model of "
        "a column bold. Macro: exp of the mean over domains of the loss per token. A budget "
        f"is what so many tokens cost with {label(BASE)}; larger models see fewer for it. "
        "Models for one domain: generic is averaged over them; without fine-tuning they are "
        "those of the smallest set."
    )
    header = ["Generic", "Macro, no fine-tuning"]
    header += [f"Macro, {count(size)} tokens" for size in study.sizes]
    return table_of("Perplexity", note, ["", *header], lines)


def _main_cells(study: Study, budget: int) -> dict[str, list[Cell | None]]:
    methods = [m for m in study.methods if budget in study.budgets_of_any(m)]
    return {
        m: [
            study.cell(m, GENERIC, PRETRAINED, budget),
            study.cell(m, MACRO, PRETRAINED, budget),
            *(study.cell(m, MACRO, FINETUNED, budget, size) for size in study.sizes),
        ]
        for m in methods
    }


def domains(rows) -> Table | None:
    """Perplexity of every domain after fine-tuning, by set size, at the reported budget."""
    study = Study.of(rows)
    lines, columns = [], [*study.domains, MACRO]
    for size in study.sizes:
        group = _with_best(
            {
                m: [study.cell(m, d, FINETUNED, study.budget, size) for d in columns]
                for m in study.methods
            }
        )
        lines += [[tokens_text(size, "specialist")], *group] if group else []
    note = (
        f"Perplexity after fine-tuning at {_generic(study.budget)}{_over(study)}; the best "
        "small model of a column bold."
    )
    return table_of("Perplexity by domain", note, ["", *columns], lines)


def _with_best(cells: Mapping[str, list[Cell | None]]) -> list[list[str]]:
    """Rows of a group of methods that have values, the best small model of each column marked."""
    cells = {m: found for m, found in cells.items() if any(found)}
    rows = {m: [label(m), *(or_dash(c, spread) for c in found)] for m, found in cells.items()}
    for j in range(max(map(len, cells.values()), default=0)):
        columns = {m: found[j] for m, found in cells.items() if not is_large(m)}
        means = {m: found.mean for m, found in columns.items() if found}
        if len(means) > 1:
            best = rows[min(means, key=means.__getitem__)]
            best[j + 1] = Best(best[j + 1])
    return list(rows.values())


def choices(rows) -> Table | None:
    """Ways to choose the expert: perplexity, and cost as a multiple of one fine-tuning."""
    study = Study.of(rows)
    lines = []
    for (method, budget, size), variants in study.variants("expert.choice").items():
        arms = {study.settings.get("expert.choice", "main arm"): "", **variants}
        group = _choices(study, method, budget, size, arms)
        title = f"{label(method)}, {_generic(budget)}, {tokens_text(size, 'specialist')}"
        lines += [[title], *group] if group else []
    note = (
        "Macro perplexity after fine-tuning; the cost of specialisation is relative to "
        "taking the most frequent cluster's expert, which is one fine-tuning."
    )
    return table_of("Choice of the expert", note, ["Choice", "Perplexity", "Cost"], lines)


def _choices(
    study: Study, method: str, budget: int, size: int, arms: Mapping[str, str]
) -> list[list[str]]:
    """A row for each arm, {choice: variant}, that has a perplexity."""
    found = {name: study.costs(method, budget, size, v) for name, v in arms.items()}
    costs = {name: c[1].flops for name, c in found.items() if c}
    once = costs.get("frequent", min(costs.values(), default=0))
    cells = {
        name: study.cell(method, MACRO, FINETUNED, budget, size, v) for name, v in arms.items()
    }
    return [
        [name, spread(value), f"{number(costs[name] / once)}×" if once and name in costs else DASH]
        for name, value in cells.items()
        if value
    ]


def variants(rows) -> Table | None:
    """Every variant before and after fine-tuning, next to the arm it is a variant of."""
    study = Study.of(rows)
    lines = []
    for method, variant, budget, size in study.all_variants():
        at = dict(budget=budget, size=size)
        cells = [
            study.cell(method, phase=phase, variant=variant, **at)
            for phase in (PRETRAINED, FINETUNED)
        ]
        main = study.values(method, **at)
        seeds = study.values(method, variant=variant, **at)
        cells.append(cell([main[seed] for seed in seeds if seed in main]))
        lines.append([f"{label(method)}, {variant}", *(or_dash(c, spread) for c in cells)])
    return table_of(
        "Variants",
        "One setting changed, with the smallest specialist set and the same "
        "seeds; macro perplexity.",
        ["", "No fine-tuning", "After fine-tuning", "The arm itself, after"],
        lines,
    )


def steps(rows) -> Table | None:
    """Fine-tuning steps: the best one and how many were run, by method and set size."""
    study = Study.of(rows)
    lines = []
    for method in study.methods:
        texts = [_steps_text(study, method, size) for size in study.sizes]
        lines += [[label(method), *texts]] if set(texts) != {DASH} else []
    note = (
        f"Best step of how many were run at {_generic(study.budget)}, mean over domains and "
        "seeds. A best step near the last one says that more steps would have helped."
    )
    header = ["", *(f"{count(size)} tokens" for size in study.sizes)]
    return table_of("Fine-tuning steps", note, header, lines)


def _steps_text(study: Study, method: str, size: int) -> str:
    at = (FINETUNED, study.budget, size)
    means = [
        cell(
            [
                value
                for domain in study.domains
                for value in study.values(method, domain, *at, field=field).values()
            ]
        )
        for field in ("best_step", "steps")
    ]
    return " of ".join(number(c.mean, 0) if c else "?" for c in means) if any(means) else DASH


def _generic(budget: int | None) -> str:
    return tokens_text(budget, "generic")


def _over(study: Study) -> str:
    n = len(study.seeds)
    return f", mean ± sample standard deviation over {n} seeds" if n > 1 else ""
