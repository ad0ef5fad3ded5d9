"""Perplexity at equal total cost, against the same written out."""

import math

import pytest
import study_fixtures

from specialm.reports.equal_cost import DOMAIN_COUNTS, change, equal_total_cost
from specialm.reports.study_rows import Study
from specialm.reports.summary import count
from specialm.reports.tables import DASH

SIZE = study_fixtures.SIZES[0]


def made(once, each, perplexity, method="slm", seeds=(0, 1)):
    """Rows of one domain and its macro: one budget for each (once, each, perplexity)."""
    return [
        dict(
            method=method,
            variant="",
            domain=domain,
            target=domain,
            phase="finetuned",
            seed=seed,
            budget=budget,
            train_tokens=budget,
            specialist_tokens=SIZE,
            nll_per_token=math.log(p * (1 + 0.1 * seed)),
            perplexity=p * (1 + 0.1 * seed),
            bits_per_byte=1.0,
            generic_flops=g,
            specialise_flops=s,
            generic_tokens=budget,
            specialise_tokens=budget,
            device_seconds=1.0,
            generic_device_seconds=1.0,
            specialise_device_seconds=1.0,
        )
        for seed in seeds
        for budget, (g, s, p) in enumerate(zip(once, each, perplexity, strict=True), 1)
        for domain in ("med", "macro")
    ]


BASE = made((100.0, 400.0), (1.0, 1.0), (80.0, 60.0))


@pytest.mark.parametrize("domains", DOMAIN_COUNTS)
@pytest.mark.parametrize(("budget", "each", "ours"), [(1, 100.0, 70.0), (2, 401.0, 50.0)])
def test_the_base_is_interpolated_between_its_budgets(domains, budget, each, ours):
    rows = BASE + made((0.0, 0.0), (100.0, 401.0), (70.0, 50.0), "slm_is")
    found = change(Study(rows), "slm_is", budget, domains, SIZE)
    spent, low, high = domains * each, 100 + domains, 400 + domains
    if not 0.98 * low <= spent <= 1.02 * high:
        assert found is None and domains > 1
        return
    share = (math.log(spent) - math.log(low)) / (math.log(high) - math.log(low))
    share = min(max(share, 0.0), 1.0)
    base = math.exp((1 - share) * math.log(80) + share * math.log(60))
    assert found.mean == pytest.approx(ours / base - 1) and found.seeds == 2
    assert found.sd == pytest.approx(0, abs=1e-12)


def test_what_costs_the_same_is_compared_as_it_is():
    rows = BASE + made((100.0, 400.0), (1.0, 1.0), (76.0, 57.0), "slm_pn")
    for domains in DOMAIN_COUNTS:
        for budget in (1, 2):
            found = change(Study(rows), "slm_pn", budget, domains, SIZE)
            assert found.mean == pytest.approx(-0.05)


def test_a_base_of_one_budget_says_nothing():
    one = [row for row in BASE if row["budget"] == 1]
    rows = one + made((100.0,), (1.0,), (76.0,), "slm_pn")
    assert change(Study(rows), "slm_pn", 1, 1, SIZE) is None
    assert equal_total_cost(rows) is None


def test_the_table_of_a_study():
    study = Study(study_fixtures.rows())
    table = equal_total_cost(study)
    assert list(table.header) == ["", "N = 1", "N = 3", "N = 10", "N = 30"]
    budget = study.budgets[-1]
    line = next(row for row in table.rows if row[0] == f"SLM-mix, {count(budget)}")
    for text, n in zip(line[1:], DOMAIN_COUNTS, strict=True):
        assert (text == DASH) == (change(study, "slm_mix", budget, n, SIZE) is None)
