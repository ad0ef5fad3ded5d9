"""A study's findings against NumPy, on made-up rows (tests/study_fixtures.py)."""

import math
import re

import numpy as np
import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st
from study_fixtures import BUDGET, SIZE, perplexities, select

from specialm.reports.study_findings import findings
from specialm.reports.summary import count, label

ROWS = study_fixtures.rows()


def finding(rows, name):
    (found,) = [f for f in findings(rows) if f.name == name]
    return found


def test_the_best_small_model_is_named_with_its_numbers():
    found = finding(ROWS, "best_small")
    best, second = perplexities(ROWS, "slm_is"), perplexities(ROWS, "slm_pn")
    change = [best[s] / second[s] - 1 for s in best]
    assert found.holds is True
    assert f"is SLM-is, macro perplexity {np.mean(list(best.values())):.2f} ±" in found.sentence
    assert f"next is SLM-pn, {np.mean(list(second.values())):.2f} ±" in found.sentence
    assert f"−{-100 * np.mean(change):.1f}% ±" in found.sentence
    assert "SLM-is lower with 3 of 3 seeds" in found.sentence


def test_another_best_small_model_is_named_and_importance_sampling_with_it():
    found = finding(study_fixtures.rows(gain={"soup": 0.8, "slm_pn": 0.7}), "best_small")
    assert found.holds is False
    assert "is Soup-of-Experts" in found.sentence and "next is SLM-pn" in found.sentence
    assert "SLM-is, 5" in found.sentence and "is not among the two" in found.sentence


def test_a_best_small_model_that_is_not_best_with_every_seed_is_left_open():
    rows = [dict(r) for r in ROWS]
    for row in rows:
        if (row["method"], row["domain"], row["phase"], row["seed"]) == (
            "slm_pn",
            "macro",
            "finetuned",
            2,
        ):
            row["perplexity"] *= 0.8
    found = finding(rows, "best_small")
    assert found.holds is None and "SLM-is lower with 2 of 3 seeds" in found.sentence


@pytest.mark.parametrize(
    ("gain", "holds", "words"),
    [(0.3, True, "SLM-is beats the LLM there"), (0.1, False, "SLM-is does not beat the LLM there")],
)
def test_importance_sampling_against_the_large_model(gain, holds, words):
    rows = study_fixtures.rows(gain={"slm_is": gain})
    found = finding(rows, "over_llm")
    assert found.holds is holds and found.sentence.startswith(words)
    for method in ("slm_is", "llm"):
        assert f"{np.mean(list(perplexities(rows, method).values())):.2f} ±" in found.sentence


def test_seeds_that_disagree_decide_nothing():
    rows = [dict(r) for r in ROWS]
    for row in rows:
        if (row["method"], row["domain"], row["phase"], row["seed"]) == (
            "slm_is",
            "macro",
            "finetuned",
            1,
        ):
            row["perplexity"] *= 2
    found = finding(rows, "over_llm")
    assert found.holds is None and "lower with 2 of 3 seeds" in found.sentence
    assert "cannot be distinguished from the LLM" in found.sentence


def test_one_seed_is_said_to_be_one():
    found = finding(study_fixtures.rows(seeds=(0,)), "over_llm")
    assert found.holds is True and "with one seed" in found.sentence


def test_fine_tuning_helps_everywhere_or_the_worst_place_is_named():
    found = finding(ROWS, "fine_tuning")
    combinations = (
        (len(study_fixtures.METHODS) - 1) * len(study_fixtures.BUDGETS) * len(study_fixtures.SIZES)
    )
    assert found.holds is True and f"in {combinations} of {combinations}" in found.sentence
    worse = [
        dict(r, perplexity=9e4)
        if r["domain"] == "macro"
        and r["phase"] == "finetuned"
        and r["method"] == "soup"
        and r["train_tokens"] == BUDGET
        and r["variant"] == ""
        and r["specialist_tokens"] == SIZE
        else r
        for r in ROWS
    ]
    found = finding(worse, "fine_tuning")
    assert found.holds is False and f"in 1 of {combinations}" in found.sentence
    assert f"worst: Soup-of-Experts at {count(BUDGET)} and {count(SIZE)} tokens" in found.sentence


def by_hand(rows, method, other, budget):
    """[change of each seed] at equal total cost for one domain, from the made-up cost formula."""

    def total(name, b):
        row = select(
            rows,
            method=name,
            phase="finetuned",
            domain="macro",
            train_tokens=b,
            specialist_tokens=SIZE,
        )[0]
        return row["generic_flops"] + row["specialise_flops"]

    here = math.log(total(method, budget))
    points = [math.log(total(other, b)) for b in study_fixtures.BUDGETS]
    changes = []
    for seed in study_fixtures.SEEDS:
        y = [perplexities(rows, other, budget=b)[seed] for b in study_fixtures.BUDGETS]
        i = next(i for i in range(len(y) - 1) if points[i] <= here <= points[i + 1])
        share = (here - points[i]) / (points[i + 1] - points[i])
        there = y[i] + share * (y[i + 1] - y[i])
        changes.append(perplexities(rows, method, budget=budget)[seed] / there - 1)
    return changes


def test_equal_cost_interpolates_in_log_cost_at_the_largest_budget_in_range():
    # A token costs slm_pn 5/3 of slm's: its largest budget is out of slm's range.
    sentence = finding(ROWS, "experts_over_slm").sentence
    budget = study_fixtures.BUDGETS[1]
    change = by_hand(ROWS, "slm_pn", "slm", budget)
    assert (
        f"SLM-pn is better ({count(budget)} tokens: −{-100 * np.mean(change):.1f}% ± "
        f"{100 * np.std(change, ddof=1):.1f}, SLM-pn lower with 3 of 3 seeds)"
    ) in sentence
    assert finding(ROWS, "experts_over_slm").holds is True
    change = by_hand(ROWS, "slm_pn", "slm_d", BUDGET)
    assert (
        f"SLM-pn is better ({count(BUDGET)} tokens: −{-100 * np.mean(change):.1f}%"
        in finding(ROWS, "experts_over_slm_d").sentence
    )


def test_experts_that_lose_at_equal_cost_are_said_to_lose():
    found = finding(study_fixtures.rows(gain={"slm_mix": -0.1}), "experts_over_slm")
    assert found.holds is False
    assert "SLM-pn is better" in found.sentence and "SLM-mix is not better" in found.sentence


def test_below_the_range_the_nearest_dearer_point_is_taken_and_said():
    # slm_d pays for its teacher: with one budget each its only point is dearer.
    def one_budget(gain):
        return finding(study_fixtures.rows(budgets=(BUDGET,), gain=gain), "experts_over_slm_d")

    better = one_budget({})
    assert better.holds is True and "against a dearer SLM-d" in better.sentence
    # Losing to a model that cost more is no answer.
    worse = one_budget({"slm_pn": -0.5, "slm_mix": -0.5})
    assert worse.holds is None and "SLM-mix is not known to be better" in worse.sentence


def test_above_the_range_nothing_can_be_compared():
    found = finding(study_fixtures.rows(budgets=(BUDGET,)), "experts_over_slm")
    assert (
        found.holds is None
        and "SLM-pn cannot be compared (every run of it costs more" in found.sentence
    )


@pytest.mark.parametrize("shrinks", [True, False])
def test_the_advantage_by_set_size(shrinks):
    rows = ROWS
    if not shrinks:
        rows = [
            dict(r, perplexity=r["perplexity"] / 2)
            if r["method"] == "slm_mix" and r["specialist_tokens"] == max(study_fixtures.SIZES)
            else r
            for r in ROWS
        ]
    found = finding(rows, "advantage_shrinks")
    assert found.holds is shrinks
    for method in ("slm_is", "slm_pn", "slm_mix"):
        gains = []
        for size in (SIZE, max(study_fixtures.SIZES)):
            ours, base = perplexities(rows, method, size), perplexities(rows, "slm", size)
            gains.append(100 * np.mean([1 - ours[s] / base[s] for s in ours]))
        found_gains = re.search(
            rf"{label(method)} ([\d.]+)% ± [\d.]+ and ([\d.]+)% ±", found.sentence
        )
        assert [float(g) for g in found_gains.groups()] == pytest.approx(gains, abs=0.051)


def test_no_advantage_cannot_shrink():
    losing = {"slm_is": -0.1, "slm_pn": -0.1, "slm_mix": -0.1}
    found = finding(study_fixtures.rows(gain=losing), "advantage_shrinks")
    assert found.holds is None and "no such method is better on the smallest set" in found.sentence


@settings(max_examples=20)
@given(st.floats(0.05, 20))
def test_the_crossover_is_the_first_number_of_domains_that_costs_more(times):
    rows = [
        dict(r, generic_flops=times * r["generic_flops"]) if r["method"] == "slm_pn" else r
        for r in ROWS
        if r["method"] in ("slm_is", "slm_pn") and r["phase"] == "finetuned"
    ]
    sampled, projected = (
        select(rows, method=m, domain="med", train_tokens=BUDGET, specialist_tokens=SIZE)[0]
        for m in ("slm_is", "slm_pn")
    )
    first = next(
        n
        for n in range(1, 200)
        if n * sampled["specialise_flops"]
        > projected["generic_flops"] + n * projected["specialise_flops"]
    )
    found = finding(rows, "crossover")
    assert found.holds is True
    assert found.sentence.startswith(f"From {first} domain{'s' * (first > 1)} on, SLM-is costs")


def test_importance_sampling_that_is_always_cheaper_never_crosses():
    rows = [dict(r, specialise_flops=1.0) if r["method"] == "slm_is" else r for r in ROWS]
    assert finding(rows, "crossover").holds is False


def test_without_rows_nothing_is_decided():
    assert {f.holds for f in findings([])} == {None}
    assert all("is undecided" in f.sentence for f in findings([]))


def test_an_unknown_method_is_found_under_its_own_name():
    rows = study_fixtures.rows(methods=("slm", "mine"), gain={"mine": 0.5})
    assert "is mine, macro" in finding(rows, "best_small").sentence
