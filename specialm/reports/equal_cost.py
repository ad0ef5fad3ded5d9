"""At equal total cost: for which number of domains is which method better than the base?

At one generic budget methods cost the same for one domain; for N domains those that pretrain again
for each cost nearly N times as much, and the base might have been trained longer for that.
"""

import numpy as np

from specialm.evaluation import cost
from specialm.methods import BASE
from specialm.reports.study_rows import Study
from specialm.reports.summary import Cell, cell_of, count, label, signed_percent, tokens_text
from specialm.reports.tables import DASH, Table, table_of

DOMAIN_COUNTS = (1, 3, 10, 30)
TOLERANCE = 0.02  # beyond the base's range, of a cost: early stopping varies by as much


def change(study: Study, method: str, budget: int, domains: int, size: int | None) -> Cell | None:
    """Perplexity over the base's at the same C(N) - 1, over the seeds of both.

    The base's is interpolated between its budgets, log perplexity over log C(N), for each seed;
    None where the method costs less or more than the base at all of them.
    """
    base = [(_spent(study, BASE, b, domains, size), b) for b in study.budgets_of(BASE, size=size)]
    known = sorted((spent, b) for spent, b in base if spent)
    spent = _spent(study, method, budget, domains, size)
    if len(known) < 2 or not spent:
        return None
    if not known[0][0] * (1 - TOLERANCE) <= spent <= known[-1][0] * (1 + TOLERANCE):
        return None
    ours = study.values(method, budget=budget, size=size)
    theirs = [study.values(BASE, budget=b, size=size) for _, b in known]
    at = np.log(spent), np.log([x for x, _ in known])
    changes = {
        seed: value / float(np.exp(np.interp(*at, np.log([of[seed] for of in theirs])))) - 1
        for seed, value in ours.items()
        if all(seed in of for of in theirs)
    }
    return cell_of(changes) if changes else None


def _spent(study: Study, method: str, budget: int, domains: int, size: int | None) -> float:
    """C(N); 0 if it is not known."""
    costs = study.costs(method, budget, size)
    return cost.total(*costs, domains=domains).flops if costs else 0.0


def equal_total_cost(rows) -> Table | None:
    """Macro perplexity against the base's at the same C(N), a column for each N."""
    study = Study.of(rows)
    lines = []
    for size in study.sizes:
        group = []
        for method in (m for m in study.methods if m != BASE):
            for budget in study.budgets_of(method, size=size):
                found = [change(study, method, budget, n, size) for n in DOMAIN_COUNTS]
                texts = [signed_percent(each) if each else DASH for each in found]
                if any(found):
                    group.append([f"{label(method)}, {count(budget)}", *texts])
        lines += [[tokens_text(size, "specialist")], *group] if group else []
    note = (
        f"Macro perplexity after fine-tuning against {label(BASE)}'s at the same C(N) = generic + "
        f"N × specialisation, by method and generic budget; below zero is better. {label(BASE)}'s "
        "is interpolated between its budgets (log perplexity over log cost). A dash: it costs less "
        f"or more than {label(BASE)} at all of its budgets."
    )
    header = ["N = " + str(domains) for domains in DOMAIN_COUNTS]
    return table_of("At equal total cost, by number of domains", note, ["", *header], lines)
