"""The grid of a study, on made-up rows (tests/study_fixtures.py)."""

import math

import numpy as np
import pytest
import study_fixtures
from study_fixtures import BUDGET, SIZE, select

from specialm.methods import METHODS
from specialm.reports.study_rows import Study

ROWS = study_fixtures.rows()


def test_the_grid_is_read_off_the_main_arms():
    study = Study(ROWS)
    assert study.methods == sorted(study_fixtures.METHODS, key=list(METHODS).index)
    assert tuple(study.budgets) == study_fixtures.BUDGETS
    assert tuple(study.sizes) == study_fixtures.SIZES
    assert tuple(study.domains) == study_fixtures.DOMAINS
    assert (study.budget, study.size, study.left_out) == (BUDGET, SIZE, 0)


def test_the_reported_budget_is_one_where_methods_can_be_compared():
    rows = [r for r in ROWS if r["train_tokens"] < BUDGET or r["method"] == "slm"]
    assert Study(rows).budget == study_fixtures.BUDGETS[1]
    assert Study(select(ROWS, method="slm")).budget == BUDGET
    assert Study([]).budget is None


def test_a_later_row_wins_and_rows_that_are_not_finite_are_left_out():
    row = select(
        ROWS,
        method="slm",
        phase="finetuned",
        domain="macro",
        seed=0,
        train_tokens=BUDGET,
        specialist_tokens=SIZE,
    )[0]
    at = dict(budget=BUDGET, size=SIZE)
    assert Study([row, dict(row, perplexity=7.0)]).values("slm", **at) == {0: 7.0}
    assert Study([row, dict(row, perplexity=math.nan)]).values("slm", **at) == {
        0: row["perplexity"]
    }


def test_generic_text_of_models_made_for_a_domain_is_averaged_as_losses():
    found = Study(ROWS).values("slm_is", "generic", "pretrained", BUDGET, SIZE)
    for seed, value in found.items():
        losses = [
            r["nll_per_token"]
            for r in select(
                ROWS,
                method="slm_is",
                domain="generic",
                train_tokens=BUDGET,
                seed=seed,
                specialist_tokens=SIZE,
            )
        ]
        assert len(losses) == len(study_fixtures.DOMAINS)
        assert value == pytest.approx(math.exp(np.mean(losses)))


def test_a_macro_average_over_fewer_domains_is_left_out():
    lost = dict(
        method="slm_pn",
        domain="law",
        phase="finetuned",
        seed=1,
        train_tokens=BUDGET,
        specialist_tokens=SIZE,
    )
    gone = select(ROWS, **lost)[0]
    study = Study([r for r in ROWS if r is not gone])
    assert study.left_out == 1
    assert set(study.values("slm_pn", budget=BUDGET, size=SIZE)) == {0, 2}


def test_costs_are_means_over_domains_and_seeds():
    rows = select(
        ROWS, method="slm", phase="finetuned", train_tokens=BUDGET, specialist_tokens=SIZE
    )
    rows = [
        dict(r, specialise_flops=float(i)) for i, r in enumerate(rows) if r["domain"] != "macro"
    ]
    once, each = Study(rows).costs("slm", BUDGET, SIZE)
    assert once.flops == rows[0]["generic_flops"]
    assert each.flops == pytest.approx(np.mean([r["specialise_flops"] for r in rows]))
