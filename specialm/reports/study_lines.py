"""The lines of a study's figures: perplexities over the budgets, by what was spent."""

from collections.abc import Callable

from specialm.evaluation import cost
from specialm.reports.study_rows import FINETUNED, PRETRAINED, Study
from specialm.reports.summary import GENERIC, Cell, cell_of

MACRO_PERPLEXITY = "Macro perplexity"  # the name of an axis
Points = list[tuple[float, Cell]]  # (x, value)
X = Callable[[Study, str, int, int | None], float | None]  # of a method, budget and set size


def over_budgets(
    study: Study, domain: str, phase: str, size: int | None, x: X
) -> dict[str, Points]:
    """{method: points} of the methods that have any, by increasing x.

    Args:
      study: the grid.
      domain: a domain, generic or macro.
      phase: pretrained or finetuned.
      size: of the specialist set; None before fine-tuning.
      x: where a point stands; None leaves it out.
    """
    lines = {}
    for method in study.methods:
        points = [
            (at, value)
            for budget in study.budgets_of(method, domain, phase, size)
            if (at := x(study, method, budget, size))
            and (value := study.cell(method, domain, phase, budget, size))
        ]
        if points:
            lines[method] = sorted(points, key=lambda point: point[0])
    return lines


def own_tokens(study: Study, method: str, budget: int, size: int | None) -> float:
    """Tokens that the method's own model was pretrained on."""
    tokens = study.values(method, GENERIC, PRETRAINED, budget, size, field="train_tokens")
    return cell_of(tokens).mean


def pretraining_flops(study: Study, method: str, budget: int, size: int | None) -> float | None:
    """FLOPs of generic pretraining; where there is none, of one domain's own pretraining."""
    phases = (FINETUNED, PRETRAINED) if size else (PRETRAINED, FINETUNED)
    found = {phase: study.costs(method, budget, size, phase=phase) for phase in phases}
    costs = {phase: c for phase, c in found.items() if c}
    once = [generic.flops for generic, _ in costs.values() if generic.flops]
    own = [costs[phase][1].flops for phase in (PRETRAINED, FINETUNED) if phase in costs]
    return next(iter(once + own), None)


def total_flops(domains: int) -> X:
    """The total cost C(N) for N domains, as a function of a method's place."""

    def flops(study: Study, method: str, budget: int, size: int | None) -> float | None:
        costs = study.costs(method, budget, size)
        return cost.total(*costs, domains=domains).flops if costs else None

    return flops
