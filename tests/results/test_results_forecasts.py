"""The evidence of forecasts follows from results/, and what results/README.md says of them."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import forecast_table, forecasts, scored
from specialm.planning import evidence, law

README = (forecast_table.RESULTS / "README.md").read_text()
ROWS = [
    json.loads(line)
    for line in (forecast_table.RESULTS / "forecasts" / "rows.jsonl").read_text().splitlines()
]
TABLE = evidence.table()


def test_the_evidence_follows_from_the_results():
    curves = forecast_table.curves_of(TABLE["domains"])
    assert forecast_table.rows(curves) == evidence.rows(), "python -m benchmarks.forecast_table"
    assert forecast_table.open_checkpoints(curves) == TABLE["open"], "... --open"
    assert forecast_table.sources() == TABLE["sources"]
    assert forecast_table.costs() == TABLE["costs"]
    assert TABLE["names"] == list(law.NAMES)


@pytest.mark.parametrize("kind", forecast_table.KINDS)
def test_the_law_is_the_one_of_the_rows(kind):
    """Searched for from where it is, so that other processors find it too."""
    of = TABLE["laws"][kind]
    again = law.fit(evidence.rows(), kind, np.array(of["theta"]))
    said, stored = (
        law.Features(evidence.rows(), kind).predicted(theta)
        for theta in (again.theta_l, np.array(of["theta"]))
    )
    assert said == pytest.approx(stored, abs=3e-3)
    assert np.shape(of["draws"]) == (forecast_table.DRAWS, len(law.NAMES))


def test_the_table_is_that_of_the_rows():
    for made in (forecasts.table(ROWS), forecasts.choice_table(ROWS)):
        assert made in README, "python -m benchmarks.forecasts --read=results/forecasts/rows.jsonl"


def test_every_row_is_forecast_without_itself():
    rows = evidence.rows()
    ways = {}
    for left in forecasts.ways(rows):
        ways.setdefault(left.way, []).append(left)
        assert not set(map(repr, left.rows)) & set(map(repr, left.known)), left.name
    assert sorted(row for left in ways["domain"] for row in map(repr, left.rows)) == sorted(
        map(repr, rows)
    )
    for left in ways["4x"]:
        of_study = [row.compute for row in left.known if row.study == left.name]
        assert min(row.compute for row in left.rows) > 3 * max(of_study)
    for left in ways["30x"]:
        known = max(row.compute for row in left.known)
        assert min(row.compute for row in left.rows) > 19 * known
    for left in ways["domain, a proxy"]:
        assert {row.method for row in left.known if row.domain == left.name} == {"slm"}


def test_a_choice_is_the_lowest_forecast_of_those_that_are_served():
    def row(method, forecast, measured, repetitions=1.0):
        return {
            "way": "cell", "at": ["s", "d", 1, 2], "method": method, "forecast": forecast,
            "measured": measured, "repetitions": repetitions, "seed": 0,
        }  # fmt: skip

    found = [
        row("slm", 2.5, 2.2),
        row("slm_pn", 2.4, 2.31),
        row("llm", 1.0, 1.0),
        row("slm_is", 2.0, 2.0, repetitions=30.0),
    ]
    (lost,) = forecasts.choices(forecasts.compared(found))["cell"]
    assert lost["forecast"] == lost["order"] == pytest.approx(2.31 / 2.2 - 1)
    assert (lost["slm"], lost["chance"]) == (0, 0.5)
    assert forecasts.choices(forecasts.compared(found[:1])) == {}


def test_domains_that_share_a_budget_pay_for_importance_sampling_each():
    """The small model has the larger budget, importance sampling the smaller one."""
    pairs = {
        ("cell", "s", "d", "10", "1"): {"slm": (2.6, 2.6), "slm_is": (2.5, 2.5)},
        ("cell", "s", "d", "14", "1"): {"slm": (2.4, 2.4), "slm_is": (2.3, 2.2)},
        ("cell", "s", "e", "14", "1"): {"slm": (1.0, 1.0)},
    }
    (found,) = forecasts.shared(pairs).values()
    assert found == {"slm": (2.4, 2.4), "slm_is": (2.5, 2.5)}


def test_rows_of_evidence_are_read_back():
    one = evidence.rows()[0]
    assert evidence.Row(**evidence.to_json(one)) == one
    assert dataclasses.asdict(one) == evidence.to_json(one)


def errors(way, take=lambda row: True):
    """Relative errors of the cells' means over the seeds."""
    cells = forecasts.of_cells([row for row in ROWS if row["way"] == way and take(row)])
    mean = {
        name: np.array([np.mean([row[name] for row in rows]) for rows in cells.values()])
        for name in ("forecast", "measured")
    }
    return mean["forecast"] / mean["measured"] - 1


def test_what_the_readme_finds():
    means = forecasts.compared(ROWS)
    alone, shared = forecasts.choices(means), forecasts.choices(forecasts.shared(means))
    for made in (*alone.values(), *shared.values()):
        assert np.mean([one["forecast"] <= 0.01 for one in made]) >= 0.8
    for made in alone.values():
        as_good = [np.mean([one[n] <= 0.01 for one in made]) for n in ("order", "forecast")]
        assert as_good[0] >= as_good[1]
    for made in shared.values():
        assert all(one["order"] > 0.01 >= one["forecast"] for one in made)
    assert np.abs(errors("4x")).mean() > 0.01 and np.abs(errors("30x")).mean() > 0.03
    assert errors("30x").min() > 0
    large = errors("4x", lambda row: row["method"] == "llm")
    assert large.mean() == pytest.approx(-0.048, abs=5e-4)
    med = errors("4x", lambda row: row["study"] == "repetition" and row["domain"] == "med")
    assert med.max() == pytest.approx(0.104, abs=5e-4)
    books = errors("4x", lambda row: row["study"] == "bank" and row["domain"] == "books")
    assert books.mean() == pytest.approx(0.047, abs=5e-4)
    of_domain = {
        d: np.abs(errors("domain", lambda r, d=d: r["domain"] == d)).mean()
        for d in forecast_table.DOMAINS
    }
    assert max(of_domain, key=of_domain.get) == "books"
    assert of_domain["books"] == pytest.approx(0.083, abs=5e-4)
    assert max(TABLE["domains"], key=lambda d: TABLE["domains"][d]["mixed"][0]) == "books"
    large_known = max(
        row.params
        for left in forecasts.ways(evidence.rows())
        if left.way == "30x"
        for row in left.known
    )
    assert large_known == 334_464


def test_registered_forecasts_are_scored_from_committed_rows():
    """Nothing was forecast after it was trained, and the README's table is that of the rows."""
    rows = scored.read()
    assert scored.table(rows) in README, "python -m benchmarks.scored"
    assert scored.domains(rows)
    for domain in scored.domains(rows):
        found = scored.score(domain, rows)
        forecast = json.loads((scored.REGISTERED / f"{domain}.json").read_text())
        assert domain not in {row.domain for row in evidence.rows()}
        for each in found["methods"]:
            said = next(f for f in forecast["plan"]["forecasts"] if f["method"] == each["method"])
            (measured,) = (
                row["bits_per_byte"]
                for row in rows
                if (row["domain"], row["method"], row["phase"])
                == (domain, each["method"], "finetuned")
            )
            assert (each["forecast"], each["measured"]) == (said["bits_per_byte"], measured)
            low, high = said["interval_80"]
            assert each["inside_80"] == (low <= measured <= high)
            assert each["notes"] == []  # tokens and parameters are as planned


def test_what_the_readme_says_of_registered_forecasts():
    found = [scored.score(domain, scored.read()) for domain in ("legal", "math", "theology")]
    methods = [each for one in found for each in one["methods"]]
    assert len(methods) == 6 and all(each["error"] > 0 for each in methods)
    assert all(each["inside_95"] for each in methods)
    assert not any(each["inside_80"] for each in found[2]["methods"])
    assert all((one["recommended"], one["best"]) == ("slm_is", "slm_is") for one in found)
    models = {
        (row["bits_per_byte"], row["train_flops"])
        for row in scored.read()
        if (row["method"], row["phase"]) == ("slm", "pretrained")
    }
    assert len({flops for _, flops in models}) == 1  # one model for all three
