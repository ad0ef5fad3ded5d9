"""At equal total cost: for which number of domains is which method better than the base?

At one generic budget methods cost the same for one domain; for N domains those that pretrain again
for each cost nearly N times as much, and the base might have been trained longer for that.
"""

from typing import NamedTuple

import numpy as np

from specialm.evaluation import cost
from specialm.methods import BASE
from specialm.reports.study_rows import Study
from specialm.reports.summary import Cell, cell_of, count, label, signed_percent, tokens_text
from specialm.reports.tables import DASH, Table, table_of

DOMAIN_COUNTS = (1, 3, 10, 30)
TOLERANCE = 0.02  # beyond the base's range, of a cost: early stopping varies by as much


class Compared(NamedTuple):
    """A method against the base."""

    change: Cell
    budget: int  # of the method


def change(study: Study, method: str, domains: int, size: int | None) -> Compared | None:
    """Perplexity over the base's at the same C(N) - 1, over the seeds of both.

    The base's is interpolated between its budgets, log perplexity over log C(N), for each seed. Of
    the method's budgets the largest is taken that costs no more than the base's largest; None if
    there is none, or it costs less than the base's smallest.
    """
    base = _points(study, BASE, domains, size)
    ours = _points(study, method, domains, size)
    if len(base) < 2:
        return None
    low, high = base[0][0] * (1 - TOLERANCE), base[-1][0] * (1 + TOLERANCE)
    within = [point for point in ours if low <= point[0] <= high]
    if not within:
        return None
    spent, values, budget = within[-1]
    costs = np.log([at for at, *_ in base])
    seeds = [seed for seed in values if all(seed in of for _, of, _ in base)]
    changes = {
        seed: values[seed]
        / float(np.exp(np.interp(np.log(spent), costs, np.log([of[seed] for _, of, _ in base]))))
        - 1
        for seed in seeds
    }
    return Compared(cell_of(changes), budget) if changes else None


def _points(
    study: Study, method: str, domains: int, size: int | None
) -> list[tuple[float, dict[int, float], int]]:
    """[(C(N), {seed: macro perplexity}, budget)] of the method, by increasing cost."""
    points = []
    for budget in study.budgets_of(method, size=size):
        costs = study.costs(method, budget, size)
        if costs:
            total = cost.total(*costs, domains=domains).flops
            points.append((total, study.values(method, budget=budget, size=size), budget))
    return sorted(points, key=lambda point: point[0])


def equal_total_cost(rows) -> Table | None:
    """Macro perplexity against the base's at the same C(N), a column for each N."""
    study = Study.of(rows)
    lines = []
    for size in study.sizes:
        group = []
        for method in study.methods:
            found = [change(study, method, domains, size) for domains in DOMAIN_COUNTS]
            if method != BASE and any(found):
                group.append([label(method), *map(_text, found)])
        lines += [[tokens_text(size, "specialist")], *group] if group else []
    note = (
        f"Macro perplexity after fine-tuning against {label(BASE)}'s at the same C(N) = generic + "
        f"N × specialisation; below zero is better. {label(BASE)}'s is interpolated between its "
        "budgets (log perplexity over log cost); of a method's budgets the largest that lies among "
        f"these counts (in brackets), {DASH} if none does."
    )
    header = ["N = " + str(domains) for domains in DOMAIN_COUNTS]
    return table_of("At equal total cost, by number of domains", note, ["", *header], lines)


def _text(found: Compared | None) -> str:
    return f"{signed_percent(found.change)} ({count(found.budget)})" if found else DASH
