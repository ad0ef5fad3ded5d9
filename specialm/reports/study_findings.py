"""What a study found: each question with its answer, yes, no or not to be told, and the numbers.

The questions are those of [G] (methods.md, end of section 4), asked of these rows.
"""

from dataclasses import dataclass

import numpy as np

from specialm.evaluation import cost
from specialm.reports.markup import percent, plural
from specialm.reports.study_rows import FINETUNED, LARGE, PRETRAINED, Study
from specialm.reports.summary import BASE, Cell, cell, count, label, signed_percent, spread

EXPERTS = ("slm_pn", "slm_mix")
EQUAL = 0.02  # costs that differ by less count as equal: early stopping varies by as much


@dataclass(frozen=True)
class Finding:
    """One question's answer: `holds` is None where the rows cannot tell."""

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
        *(at_equal_cost(study, other) for other in (BASE, "slm_d")),
        advantage_shrinks(study),
        crossover(study),
    ]


def best_small(study: Study) -> Finding:
    """Is importance sampling the best small model at the smallest set?"""
    cells = {
        m: study.cell(m, budget=study.budget, size=study.size)
        for m in study.methods
        if m not in LARGE
    }
    order = sorted((m for m in cells if cells[m]), key=lambda m: cells[m].mean)
    if len(order) < 2:
        return _untold("best_small", "Which small model is best", "fewer than two have rows")
    best, second = order[:2]
    at = dict(budget=study.budget, size=study.size)
    change = study.change(best, base=second, **at)
    sentence = (
        f"{_place(study)}, the best small model after fine-tuning is {label(best)}, macro "
        f"perplexity {spread(cells[best])}; next is {label(second)}, {spread(cells[second])} "
        f"({_agreement(change, label(best))})."
    )
    if "slm_is" not in order:
        return Finding("best_small", None, f"{sentence} SLM-is was not compared.")
    if "slm_is" not in (best, second):
        sentence += f" SLM-is, {spread(cells['slm_is'])}, is not among the two."
    if best != "slm_is":
        change = study.change("slm_is", base=best, **at)
    verdict = _verdict(change)
    return Finding("best_small", verdict if verdict is (best == "slm_is") else None, sentence)


def over_llm(study: Study) -> Finding:
    """Does importance sampling beat the large model at the smallest set, at equal cost?"""
    change = study.change("slm_is", budget=study.budget, size=study.size, base="llm")
    if not change:
        return _untold(
            "over_llm",
            "Whether SLM-is beats the LLM",
            "not both were fine-tuned on the same generic budget and specialist set",
        )
    ours, theirs = (study.cell(m, budget=study.budget, size=study.size) for m in ("slm_is", "llm"))
    holds = _verdict(change)
    does = {True: "beats", False: "does not beat", None: "cannot be told from"}[holds]
    return Finding(
        "over_llm",
        holds,
        (
            f"SLM-is {does} the LLM there: {spread(ours)} against {spread(theirs)} "
            f"({_agreement(change, 'SLM-is')})."
        ),
    )


def fine_tuning(study: Study) -> Finding:
    """Does fine-tuning lower the macro perplexity of every method, budget and set?"""
    changes = {}
    for method in study.methods:
        for budget in study.budgets_of(method, phase=PRETRAINED):
            for size in study.sizes:
                before = study.values(method, phase=PRETRAINED, budget=budget, size=size)
                after = study.values(method, phase=FINETUNED, budget=budget, size=size)
                paired = [after[s] / before[s] - 1 for s in after if s in before]
                if paired:
                    changes[method, budget, size] = cell(paired)
    if not changes:
        return _untold(
            "fine_tuning",
            "Whether fine-tuning is necessary",
            "no model was evaluated both before and after",
        )
    least = max(changes, key=lambda key: changes[key].mean)
    worse = [key for key in changes if changes[key].mean >= 0]
    most = min(c.mean for c in changes.values())
    if worse:
        named = f"{label(least[0])} at {count(least[1])} and {count(least[2])} tokens"
        return Finding(
            "fine_tuning",
            False,
            (
                f"Fine-tuning does not help everywhere: in {len(worse)} of "
                f"{plural(len(changes), 'combination')} of method, budget and specialist set it "
                f"does not lower the macro perplexity (worst: {named}, "
                f"{signed_percent(changes[least])})."
            ),
        )
    return Finding(
        "fine_tuning",
        True,
        (
            f"Fine-tuning is necessary for all: it lowers the macro perplexity in "
            f"{len(changes)} of {plural(len(changes), 'combination')} of method, budget and "
            f"specialist set, by at least {percent(-changes[least].mean)} ({label(least[0])} on "
            f"{count(least[2])} tokens) and at most {percent(-most)}."
        ),
    )


def at_equal_cost(study: Study, other: str) -> Finding:
    """Do the experts (SLM-pn, SLM-mix) beat another method at equal total cost for one domain?"""
    name, parts, verdicts = f"experts_over_{other}", [], []
    there = {m for m in (*EXPERTS, other) if study.budgets_of(m, size=study.size)}
    if other not in there or len(there) == 1:
        missing = label(other) if other not in there else "neither SLM-pn nor SLM-mix"
        return _untold(
            name,
            f"Whether SLM-pn and SLM-mix beat {label(other)} at equal total cost",
            f"{missing} was {'not ' * (other not in there)}fine-tuned on the smallest set",
        )
    for method in EXPERTS:
        found = _at_equal_cost(study, method, other)
        if found is None:
            why = f"every run of it costs more than those of {label(other)}, or no seed is shared"
            parts.append(
                f"{label(method)} cannot be compared "
                f"({why if method in there else 'it was not run'})"
            )
            verdicts.append(None)
            continue
        budget, change, note = found
        holds = _verdict(change)
        if note and holds is False:
            holds = None  # losing to a dearer model says nothing about an equally dear one
        does = {True: "is better", False: "is not better", None: "is not known to be better"}
        parts.append(
            f"{label(method)} {does[holds]} ({count(budget)} tokens{note}: "
            f"{_agreement(change, label(method))})"
        )
        verdicts.append(holds)
    holds = False if False in verdicts else None if None in verdicts else True
    return Finding(
        name,
        holds,
        (f"At equal total cost for one domain, against {label(other)}: {'; '.join(parts)}."),
    )


def _at_equal_cost(study: Study, method: str, other: str):
    """(budget, {seed: change}, note) at the largest budget that has an equally dear other.

    The other's perplexity is interpolated linearly in the logarithm of the total cost, seed by
    seed; below the cheapest of its points it is that one's, which the note says.
    """
    for budget in reversed(study.budgets_of(method, size=study.size)):
        ours = study.values(method, budget=budget, size=study.size)
        here = _total(study, method, budget)
        changes, dearer = {}, False
        for seed, value in ours.items():
            points = [
                (_total(study, other, b), study.values(other, budget=b, size=study.size))
                for b in study.budgets_of(other, size=study.size)
            ]
            points = sorted((x, values[seed]) for x, values in points if x and seed in values)
            if not here or not points or here > points[-1][0] * (1 + EQUAL):
                continue
            dearer |= here < points[0][0] * (1 - EQUAL)
            at, y = zip(*points, strict=True)
            changes[seed] = value / float(np.interp(np.log(here), np.log(at), y)) - 1
        if changes:
            note = f", against a dearer {label(other)}" if dearer else ""
            return budget, changes, note
    return None


def advantage_shrinks(study: Study) -> Finding:
    """Is the advantage over the base smaller on the largest set than on the smallest?"""
    name, asked = "advantage_shrinks", "Whether the advantage over SLM shrinks with the set"
    if len(study.sizes) < 2:
        return _untold(name, asked, "there are fewer than two set sizes")
    small, large = study.sizes[0], study.sizes[-1]
    parts, verdicts = [], []
    for method in ("slm_is", *EXPERTS):
        gains = [study.change(method, budget=study.budget, size=s) for s in (small, large)]
        gains = [cell([-v for v in gain.values()]) for gain in gains]
        if None in gains:
            continue
        parts.append(f"{label(method)} {_points(gains[0])} and {_points(gains[1])}")
        if gains[0].mean > 0:
            verdicts.append(gains[1].mean < gains[0].mean)
    if not verdicts:
        why = f"; gains: {'; '.join(parts)}" if parts else ""
        return _untold(name, asked, f"no such method is better on the smallest set{why}")
    holds = all(verdicts)
    said = (
        "The advantage over SLM shrinks"
        if holds
        else "The advantage over SLM does not shrink for every method"
    )
    return Finding(
        name,
        holds,
        (
            f"{said} as the specialist set grows from {count(small)} to {count(large)} tokens "
            f"(lower perplexity than SLM by: {'; '.join(parts)})."
        ),
    )


def crossover(study: Study) -> Finding:
    """From how many domains on does SLM-is cost more than SLM-pn?"""
    costs = [study.costs(m, study.budget, study.size) for m in ("slm_is", "slm_pn")]
    name = "crossover"
    if None in costs:
        return _untold(
            name,
            "From how many domains on SLM-is costs more than SLM-pn",
            "not both were fine-tuned on the same generic budget and specialist set",
        )
    once = costs[1][0].flops
    paid = (
        f"each domain costs {flops_text(costs[0][1].flops)} with SLM-is; SLM-pn costs "
        f"{flops_text(once)} once and {flops_text(costs[1][1].flops)} a domain"
    )
    domains = cost.crossover(*costs)
    if domains is None:
        return Finding(name, False, f"SLM-is never costs more than SLM-pn ({paid}).")
    return Finding(
        name,
        True,
        (f"From {plural(domains, 'domain')} on, SLM-is costs more than SLM-pn ({paid})."),
    )


def flops_text(flops: float) -> str:
    """FLOPs with the unit that leaves one to three digits before the point: `1.25 PFLOP`."""
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G")):
        if flops >= 10**power * 0.9995:
            return f"{flops / 10**power:,.3g} {letter}FLOP"
    return "0" if flops == 0 else f"{flops / 1e6:,.3g} MFLOP"


def _total(study: Study, method: str, budget: int) -> float | None:
    costs = study.costs(method, budget, study.size)
    return cost.total(*costs, 1).flops if costs else None


def _place(study: Study) -> str:
    return (
        f"At {count(study.budget)} generic and {count(study.size)} specialist tokens"
        if study.budget
        else f"At {count(study.size)} specialist tokens"
    )


def _verdict(change: dict) -> bool | None:
    """Lower with every seed: True; with none: False; else, or without seeds, None."""
    lower = {value < 0 for value in change.values()}
    return lower.pop() if len(lower) == 1 else None


def _agreement(change: dict, name: str) -> str:
    if not change:
        return "no seed in common"
    if len(change) == 1:
        return f"{signed_percent(cell(change))} with one seed"
    lower = sum(value < 0 for value in change.values())
    return (
        f"{signed_percent(cell(change))}, {name} lower with {lower} of "
        f"{plural(len(change), 'seed')}"
    )


def _points(gain: Cell) -> str:
    return signed_percent(gain).replace("+", "")


def _untold(name: str, asked: str, why: str) -> Finding:
    return Finding(name, None, f"{asked} cannot be told: {why}.")
