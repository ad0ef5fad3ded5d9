"""What a study found: each question with its answer, yes, no or undecided, and the numbers.

The questions are those that arXiv 2402.01093 answers in section 4, asked of these rows.
"""

from dataclasses import dataclass

import numpy as np

from specialm.evaluation import cost
from specialm.methods import BASE, DISTILLED, IMPORTANCE, LARGE, MIXTURE, PROJECTED
from specialm.reports.study_rows import FINETUNED, PRETRAINED, Study, is_large
from specialm.reports.summary import (
    Cell,
    cell,
    cell_of,
    count,
    label,
    signed_percent,
    spread,
    tokens_text,
)
from specialm.reports.words import percent, plural

EXPERTS = (PROJECTED, MIXTURE)
EQUAL = 0.02  # costs that differ by less count as equal: early stopping varies by as much
NOT_BOTH = "not both were fine-tuned on the same generic budget and specialist set"


@dataclass(frozen=True)
class Finding:
    """One question's answer: `holds` is None where the rows do not decide."""

    name: str
    holds: bool | None
    sentence: str


def findings(rows) -> list[Finding]:
    """The answers in the order of the report, the main one first."""
    study = Study.of(rows)
    return [
        best_small(study),
        over_llm(study),
        fine_tuning(study),
        *(at_equal_cost(study, other) for other in (BASE, DISTILLED)),
        advantage_shrinks(study),
        crossover(study),
    ]


def best_small(study: Study) -> Finding:
    """Whether importance sampling is the best small model at the smallest set."""
    at = dict(budget=study.budget, size=study.size)
    small = {m: study.cell(m, **at) for m in study.methods if not is_large(m)}
    cells = {m: found for m, found in small.items() if found}
    order = sorted(cells, key=lambda m: cells[m].mean)
    if len(order) < 2:
        return _undecided("best_small", "Which small model is best", "fewer than two have rows")
    best, second = order[:2]
    change = study.change(best, base=second, **at)
    sentence = (
        f"{_place(study)}, the best small model after fine-tuning is {label(best)}, macro "
        f"perplexity {spread(cells[best])}; next is {label(second)}, {spread(cells[second])} "
        f"({_agreement(change, label(best))})."
    )
    ours = label(IMPORTANCE)
    if IMPORTANCE not in order:
        return Finding("best_small", None, f"{sentence} {ours} was not compared.")
    if IMPORTANCE not in (best, second):
        sentence += f" {ours}, {spread(cells[IMPORTANCE])}, is not among the two."
    if best != IMPORTANCE:
        change = study.change(IMPORTANCE, base=best, **at)
    verdict = _verdict(change)
    return Finding("best_small", verdict if verdict is (best == IMPORTANCE) else None, sentence)


def over_llm(study: Study) -> Finding:
    """Whether importance sampling beats the large model at the smallest set, at equal cost."""
    at = dict(budget=study.budget, size=study.size)
    ours, theirs = label(IMPORTANCE), label(LARGE)
    change = study.change(IMPORTANCE, base=LARGE, **at)
    if not change:
        return _undecided("over_llm", f"Whether {ours} beats the {theirs}", NOT_BOTH)
    a, b = (spread(cell_of(study.values(m, **at))) for m in (IMPORTANCE, LARGE))
    holds = _verdict(change)
    does = {True: "beats", False: "does not beat", None: "cannot be distinguished from"}[holds]
    return Finding(
        "over_llm",
        holds,
        f"{ours} {does} the {theirs} there: {a} against {b} ({_agreement(change, ours)}).",
    )


def fine_tuning(study: Study) -> Finding:
    """Whether fine-tuning lowers the macro perplexity of every method, budget and set."""
    name, changes = "fine_tuning", _fine_tuning_changes(study)
    if not changes:
        why = "no model was evaluated both before and after"
        return _undecided(name, "Whether fine-tuning is necessary", why)
    combinations = f"{plural(len(changes), 'combination')} of method, budget and specialist set"
    least = max(changes, key=lambda key: changes[key].mean)
    method, budget, size = least
    worse = sum(change.mean >= 0 for change in changes.values())
    if worse:
        where = f"{label(method)} at {count(budget)} and {count(size)} tokens"
        return Finding(
            name,
            False,
            f"Fine-tuning does not help everywhere: in {worse} of {combinations} it does not "
            f"lower the macro perplexity (worst: {where}, {signed_percent(changes[least])}).",
        )
    most = min(change.mean for change in changes.values())
    return Finding(
        name,
        True,
        f"Fine-tuning is necessary for all: it lowers the macro perplexity in {len(changes)} of "
        f"{combinations}, by at least {percent(-changes[least].mean)} ({label(method)} on "
        f"{count(size)} tokens) and at most {percent(-most)}.",
    )


def _fine_tuning_changes(study: Study) -> dict[tuple[str, int, int], Cell]:
    """{(method, budget, size): relative change of macro perplexity by fine-tuning}."""
    changes = {}
    for method in study.methods:
        for budget in study.budgets_of(method, phase=PRETRAINED):
            for size in study.sizes:
                before, after = (
                    study.values(method, phase=phase, budget=budget, size=size)
                    for phase in (PRETRAINED, FINETUNED)
                )
                paired = [after[s] / before[s] - 1 for s in after if s in before]
                if paired:
                    changes[method, budget, size] = cell_of(paired)
    return changes


def at_equal_cost(study: Study, other: str) -> Finding:
    """Whether the experts beat another method at equal total cost for one domain."""
    name = f"experts_over_{other}"
    there = {m for m in (*EXPERTS, other) if study.budgets_of(m, size=study.size)}
    if other not in there or len(there) == 1:
        names = [label(m) for m in EXPERTS]
        missing = label(other) if other not in there else f"neither {' nor '.join(names)}"
        return _undecided(
            name,
            f"Whether {' and '.join(names)} beat {label(other)} at equal total cost",
            f"{missing} was {'not ' * (other not in there)}fine-tuned on the smallest set",
        )
    answers = [_expert_at_equal_cost(study, m, other, m in there) for m in EXPERTS]
    verdicts = [verdict for verdict, _ in answers]
    holds = False if False in verdicts else None if None in verdicts else True
    parts = "; ".join(part for _, part in answers)
    sentence = f"At equal total cost for one domain, against {label(other)}: {parts}."
    return Finding(name, holds, sentence)


def _expert_at_equal_cost(
    study: Study, method: str, other: str, was_run: bool
) -> tuple[bool | None, str]:
    """(whether it is better, in words)."""
    found = _equal_cost_changes(study, method, other)
    if found is None:
        why = "it was not run"
        if was_run:
            why = f"every run of it costs more than those of {label(other)}, or no seed is shared"
        return None, f"{label(method)} cannot be compared ({why})"
    budget, changes, dearer = found
    holds = _verdict(changes)
    if dearer and holds is False:
        holds = None  # losing to a dearer model says nothing about an equally dear one
    does = {True: "is better", False: "is not better", None: "is not known to be better"}[holds]
    note = f", against a dearer {label(other)}" if dearer else ""
    agreement = _agreement(changes, label(method))
    return holds, f"{label(method)} {does} ({count(budget)} tokens{note}: {agreement})"


def _equal_cost_changes(
    study: Study, method: str, other: str
) -> tuple[int, dict[int, float], bool] | None:
    """(budget, {seed: change}, whether the other is dearer) at the largest comparable budget.

    The other's perplexity is interpolated linearly in the logarithm of the total cost, seed by
    seed; below the cheapest of its points it is that one's, which is then dearer.
    """
    points = [
        (total, study.values(other, budget=b, size=study.size))
        for b in study.budgets_of(other, size=study.size)
        if (total := _total(study, other, b))
    ]
    for budget in reversed(study.budgets_of(method, size=study.size)):
        here, changes, dearer = _total(study, method, budget), {}, False
        for seed, value in study.values(method, budget=budget, size=study.size).items():
            mine = sorted((x, values[seed]) for x, values in points if seed in values)
            if not here or not mine or here > mine[-1][0] * (1 + EQUAL):
                continue
            dearer |= here < mine[0][0] * (1 - EQUAL)
            at, y = zip(*mine, strict=True)
            changes[seed] = value / float(np.interp(np.log(here), np.log(at), y)) - 1
        if changes:
            return budget, changes, dearer
    return None


def advantage_shrinks(study: Study) -> Finding:
    """Whether the advantage over the base is smaller on the largest set than on the smallest."""
    name, base = "advantage_shrinks", label(BASE)
    asked = f"Whether the advantage over {base} shrinks with the set"
    if len(study.sizes) < 2:
        return _undecided(name, asked, "there are fewer than two set sizes")
    small, large = study.sizes[0], study.sizes[-1]
    gains = _gains(study, small, large)
    parts = "; ".join(f"{label(m)} {_points(a)} and {_points(b)}" for m, (a, b) in gains.items())
    shrinks = [b.mean < a.mean for a, b in gains.values() if a.mean > 0]
    if not shrinks:
        why = f"; gains: {parts}" if parts else ""
        return _undecided(name, asked, f"no such method is better on the smallest set{why}")
    does = "shrinks" if all(shrinks) else "does not shrink for every method"
    return Finding(
        name,
        all(shrinks),
        f"The advantage over {base} {does} as the specialist set grows from {count(small)} to "
        f"{count(large)} tokens (lower perplexity than {base} by: {parts}).",
    )


def _gains(study: Study, small: int, large: int) -> dict[str, tuple[Cell, Cell]]:
    """{method: how much lower than the base's its perplexity is, on both sets}."""
    gains = {}
    for method in (IMPORTANCE, *EXPERTS):
        a, b = (
            cell([-v for v in study.change(method, budget=study.budget, size=size).values()])
            for size in (small, large)
        )
        if a and b:
            gains[method] = a, b
    return gains


def crossover(study: Study) -> Finding:
    """From how many domains on importance sampling costs more than a projected network."""
    name, ours, theirs = "crossover", label(IMPORTANCE), label(PROJECTED)
    a, b = (study.costs(m, study.budget, study.size) for m in (IMPORTANCE, PROJECTED))
    if a is None or b is None:
        asked = f"From how many domains on {ours} costs more than {theirs}"
        return _undecided(name, asked, NOT_BOTH)
    paid = (
        f"each domain costs {flops_text(a[1].flops)} with {ours}; {theirs} costs "
        f"{flops_text(b[0].flops)} once and {flops_text(b[1].flops)} a domain"
    )
    domains = cost.crossover(a, b)
    if domains is None:
        return Finding(name, False, f"{ours} never costs more than {theirs} ({paid}).")
    sentence = f"From {plural(domains, 'domain')} on, {ours} costs more than {theirs} ({paid})."
    return Finding(name, True, sentence)


def flops_text(flops: float) -> str:
    """FLOPs with the unit that leaves one to three digits before the point: `1.25 PFLOP`."""
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G")):
        if flops >= 10**power * 0.9995:
            return f"{flops / 10**power:,.3g} {letter}FLOP"
    return "0" if flops == 0 else f"{flops / 1e6:,.3g} MFLOP"


def _total(study: Study, method: str, budget: int) -> float | None:
    costs = study.costs(method, budget, study.size)
    return cost.total(*costs, domains=1).flops if costs else None


def _place(study: Study) -> str:
    generic = f"{count(study.budget)} generic and " if study.budget else ""
    return f"At {generic}{tokens_text(study.size, 'specialist')}"


def _verdict(change: dict) -> bool | None:
    """Lower with every seed: True; with none: False; else, or without seeds, None."""
    lower = {value < 0 for value in change.values()}
    return lower.pop() if len(lower) == 1 else None


def _agreement(change: dict, name: str) -> str:
    if not change:
        return "no seed in common"
    text = signed_percent(cell_of(change))
    if len(change) == 1:
        return f"{text} with one seed"
    lower = sum(value < 0 for value in change.values())
    return f"{text}, {name} lower with {lower} of {plural(len(change), 'seed')}"


def _points(gain: Cell) -> str:
    return signed_percent(gain).replace("+", "")


def _undecided(name: str, asked: str, why: str) -> Finding:
    return Finding(name, None, f"{asked} is undecided: {why}.")
