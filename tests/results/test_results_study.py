"""What results/README.md claims of the study, held against its committed rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from specialm.evaluation import cost
from specialm.reports import study_page, tables
from specialm.reports.record_tables import contamination_counts
from specialm.reports.study_findings import findings
from specialm.reports.study_rows import Study

FOLDER = Path(__file__).parents[2] / "results" / "study"
LARGEST, SMALL, LARGE = 16_000_000, 10_000, 100_000
SERVED = ("slm", "slm_is", "slm_pn", "slm_mix", "slm_d", "slm_nopt")
ARMS = (*SERVED, "llm")


@pytest.fixture(scope="module")
def rows():
    return [json.loads(line) for line in (FOLDER / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def study(rows):
    return Study(rows)


def after(study, method, size=SMALL, budget=LARGEST):
    """{seed: macro nats per token} after fine-tuning."""
    found = study.values(method, budget=budget, size=size, field="nll_per_token")
    assert sorted(found) == study.seeds, method
    return found


def lower(study, ours, theirs, size=SMALL):
    """In every seed."""
    a, b = after(study, ours, size), after(study, theirs, size)
    return all(a[seed] < b[seed] for seed in study.seeds)


def test_every_row_has_its_macro(rows, study):
    keys = {
        "method",
        "domain",
        "phase",
        "seed",
        "train_tokens",
        "nll_per_token",
        "perplexity",
        "bits_per_byte",
        "specialist_tokens",
        "generic_flops",
        "specialise_flops",
        "device_seconds",
    }
    assert all(keys <= set(row) for row in rows)
    assert len(study.seeds) >= 2 and study.domains == ["books", "ency", "med"]
    for method in ARMS:
        for size in (SMALL, LARGE):
            for seed, nats in after(study, method, size).items():
                parts = [
                    row["nll_per_token"]
                    for row in rows
                    if (
                        row["method"],
                        row["variant"],
                        row["phase"],
                        row["specialist_tokens"],
                        row["seed"],
                    )
                    == (method, "", "finetuned", size, seed)
                    and row["budget"] in (LARGEST, 0)
                    and row["domain"] in study.domains
                ]
                assert len(parts) == 3 and nats == pytest.approx(np.mean(parts))


def test_nothing_that_was_scored_had_leaked():
    record = json.loads((FOLDER / "study.json").read_text())
    for found in contamination_counts(record).values():
        for against in found["against"].values():
            assert against["leaked"] <= 0.005 * found["checked"]


def test_fine_tuning_is_necessary_for_all(study):
    for method in set(ARMS) - {"slm_nopt", "slm_d"}:
        for size in (SMALL, LARGE):
            before = study.values(
                method, phase="pretrained", budget=LARGEST, size=size, field="nll_per_token"
            )
            tuned = after(study, method, size)
            assert all(tuned[seed] < before[seed] for seed in study.seeds), method


def test_without_pretraining_the_small_set_is_far_too_small(study):
    for method in set(ARMS) - {"slm_nopt"}:
        gap = np.array([*after(study, "slm_nopt").values()]) - [*after(study, method).values()]
        assert (gap > np.log(1.9)).all(), method  # nearly twice the perplexity, or more


def test_importance_sampling_is_best_at_the_small_set(study):
    for method in set(ARMS) - {"slm_is"}:
        assert lower(study, "slm_is", method), method


def test_its_advantage_shrinks_with_the_set(study):
    gain = {
        size: np.mean(
            [after(study, "slm", size)[s] - after(study, "slm_is", size)[s] for s in study.seeds]
        )
        for size in (SMALL, LARGE)
    }
    assert gain[SMALL] > gain[LARGE] > 0
    llm = {
        size: np.mean(
            [after(study, "llm", size)[s] - after(study, "slm_is", size)[s] for s in study.seeds]
        )
        for size in (SMALL, LARGE)
    }
    assert llm[SMALL] > 3 * abs(llm[LARGE])


def test_experts_beat_distillation_at_equal_total_cost(study):
    found = {finding.name: finding for finding in findings(study)}
    assert found["experts_over_slm_d"].holds is True


def test_from_two_domains_on_importance_sampling_is_dearer_than_a_projected_network(study):
    ours, theirs = (study.costs(method, LARGEST, SMALL) for method in ("slm_is", "slm_pn"))
    assert cost.crossover(ours, theirs) == 2


def test_all_arms_cost_the_same(study):
    """Pretraining FLOPs, at equal budgets: up to one step."""
    slm = study.costs("slm", LARGEST, SMALL)[0].flops
    for method in ("slm_pn", "slm_mix", "llm"):
        assert study.costs(method, LARGEST, SMALL)[0].flops == pytest.approx(slm, rel=0.003)
    tuning = study.costs("slm", LARGEST, SMALL)[1].flops
    assert study.costs("slm_is", LARGEST, SMALL)[1].flops == pytest.approx(slm + tuning, rel=0.02)


def test_the_committed_tables_are_those_of_the_rows(rows):
    record = json.loads((FOLDER / "study.json").read_text())
    found = study_page.report(rows, record).tables()
    assert {path.stem for path in (FOLDER / "tables").iterdir()} == set(found)
    for name, table in found.items():
        assert (FOLDER / "tables" / f"{name}.csv").read_text() == tables.to_csv(table)
        assert (FOLDER / "tables" / f"{name}.tex").read_text() == tables.to_latex(table, name)
