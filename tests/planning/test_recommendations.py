"""Plans: what is recommended and why, intervals, break-even, a user's own rows."""

import dataclasses
import json

import numpy as np
import pytest
from planning.test_candidates import ASKED

from specialm.common.errors import UserError
from specialm.planning import candidates, describe, evidence, law, recommendations
from specialm.planning.domain_text import DomainText
from specialm.planning.evidence import Curve, Row

TEXT = DomainText("notes", 40, 66_000, 20_000, Curve((66_000,), (2.5,), (2.2,)))


@pytest.fixture(scope="module")
def plan():
    return recommendations.plan(ASKED)


def test_the_recommended_is_the_lowest_forecast_that_can_be_served(plan):
    known = [f for f in plan.forecasts if not f.candidate.unknown]
    bits = [f.bits_per_byte for f in known]
    assert bits == sorted(bits) and 1 < bits[0] < 4
    assert plan.recommended == next(f.candidate.method for f in known if f.candidate.served)
    assert sum(f.best for f in plan.forecasts) == pytest.approx(1)
    assert all(f.best == 0 for f in plan.forecasts if not f.candidate.served)


def test_medians_are_those_of_the_law_and_intervals_contain_each_other(plan):
    theta = np.array(evidence.table()["laws"]["mixed"]["theta"])
    for each in plan.forecasts:
        if each.candidate.unknown:
            assert each.intervals == {} and each.bits_per_byte == 0
            continue
        row = recommendations._row(each.candidate, ASKED)
        said = np.exp(law.Features([row], "mixed").predicted(theta))[0]
        assert each.bits_per_byte == pytest.approx(said, rel=0.03)
        (low, high), (lowest, highest) = each.intervals[80], each.intervals[95]
        assert lowest < low < each.bits_per_byte < high < highest


def test_methods_are_told_apart_better_than_their_intervals_say(plan):
    """What is wrong for all of them alike does not count in a comparison."""
    known = [f.candidate for f in plan.forecasts if not f.candidate.unknown]
    log_oxa = recommendations.draws(known, ASKED)
    names = [one.method for one in known]
    i, j = names.index("slm_is"), names.index("slm")
    assert np.std(log_oxa[:, i] - log_oxa[:, j]) < 0.5 * np.std(log_oxa[:, i])


def test_break_even_is_where_the_forecasts_cross(plan):
    assert (plan.each, plan.recommended) == ("slm_is", "slm_is") and plan.crossover > 1
    for domains, better in ((plan.crossover, plan.once), (plan.crossover - 1, plan.each)):
        at = dataclasses.replace(ASKED, domains=domains)
        pair = {m: candidates.of(m, at) for m in (plan.once, plan.each)}
        bits = recommendations._point(list(pair.values()), at, ())
        assert min(zip(bits, pair, strict=True))[1] == better
    # At as many tokens, paying for each domain again is dearer from the second one on.
    assert plan.cheaper == 2


def test_far_from_all_rows_nothing_is_recommended(monkeypatch):
    table = evidence.table() | {"open": []}
    monkeypatch.setattr(evidence, "table", lambda: table)
    far = recommendations.plan(dataclasses.replace(ASKED, params=126e6, budget=1e18))
    assert far.recommended == "" and all(f.candidate.unknown for f in far.forecasts)
    text = describe.table(far, TEXT)
    assert "No recommendation" in text and "inference_params 126M" in text


def test_a_little_beyond_is_less_sure():
    near = dataclasses.replace(ASKED, params=1.0e6, budget=3e13)
    away = dataclasses.replace(near, params=1.2e6)
    widths = []
    for asked in (near, away):
        plan = recommendations.plan(asked)
        slm = next(f for f in plan.forecasts if f.candidate.method == "slm")
        widths.append(np.log(slm.intervals[80][1] / slm.intervals[80][0]))
    assert widths[1] > widths[0] * 1.1
    assert "Beyond the rows" in describe.table(plan, TEXT)


def own_rows(off, method="slm", apart=1.0):
    """A user's small runs that came out `off` times what the law says."""
    theta = np.array(evidence.table()["laws"]["mixed"]["theta"])
    rows = []
    for tokens in (1_000_000, 2_000_000):
        for name in ("slm", method):
            row = Row("mine", name, "notes", 0, 62_336, tokens, 0.2, 66_000, 2.5, 2.2, False, 1.0)
            bits = float(np.exp(law.Features([row], "mixed").predicted(theta)[0])) * off
            bits *= apart if name == method else 1
            rows.append(dataclasses.replace(row, bits_per_byte=bits))
    return rows


def test_own_rows_move_the_forecast_and_narrow_it(plan):
    again = recommendations.plan(ASKED, own_rows(1.1))
    before, after = (
        next(f for f in p.forecasts if f.candidate.method == "slm") for p in (plan, again)
    )
    assert 1.05 < after.bits_per_byte / before.bits_per_byte < 1.11
    width = [np.log(f.intervals[80][1] / f.intervals[80][0]) for f in (before, after)]
    assert width[1] < width[0] / 2
    assert again.proxies == 4 and "4 rows of your own" in describe.table(again, TEXT)


def test_own_rows_speak_for_one_method(plan):
    """Where importance sampling was 8% worse than the law says, it is not taken."""
    assert plan.recommended == "slm_is"
    again = recommendations.plan(ASKED, own_rows(1.0, "slm_is", 1.16))
    assert again.recommended != "slm_is"


def test_the_text_names_all(plan):
    text, found = describe.table(plan, TEXT), describe.to_json(plan, TEXT)
    for method in candidates.OFFERS:
        assert recommendations.label(method) in text
    assert "Recommended: SLM-is" in text and "pretrained once" in text
    assert found["recommended"] == "slm_is" and len(found["forecasts"]) == len(candidates.OFFERS)
    assert found["not_distinguishable"] == plan.alike
    unknown = [f for f in found["forecasts"] if f["unknown"]]
    assert unknown and all(f["bits_per_byte"] is None for f in unknown)


def test_own_rows_are_read_from_a_run(tmp_path):
    """Those of the domain, of methods that the law has, with what the rows do not say computed."""
    base = {"domain": "notes", "phase": "finetuned", "seed": 0, "bits_per_byte": 2.5}
    rows = [
        base | {"method": "slm", "train_tokens": 2_000_000, "specialist_tokens": 10_000},
        base | {"method": "slm_is", "train_tokens": 2_000_000},
        base | {"method": "slm_is", "train_tokens": 2_000_000, "expected_repetitions": 7.5},
        base | {"method": "slm_is_shuffled", "train_tokens": 2_000_000},
        base | {"method": "slm", "train_tokens": 2_000_000, "phase": "pretrained"},
        base | {"method": "slm", "train_tokens": 2_000_000, "variant": "model.d_model=8"},
        base | {"method": "slm", "train_tokens": 2_000_000, "domain": "macro"},
        base | {"method": "ngram", "train_tokens": 2_000_000},
        base | {"method": "slm_nopt", "train_tokens": 0},
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"has neither run.json nor study.json"):
        evidence.proxies(path, "notes", TEXT.curve, 1e7)
    models = {name: {"params": 62_336} for name in ("slm", "slm_is", "slm_is_shuffled", "slm_nopt")}
    settings = {"data.specialist_tokens": 20_000, "model.positions": "rope"}
    (tmp_path / "run.json").write_text(json.dumps({"models": models, "settings": settings}))
    curve = Curve((22_000, 44_000), (2.5, 2.3))
    found = evidence.proxies(path, "notes", curve, 1e7)
    assert [row.method for row in found] == ["slm", "slm_is", "slm_is"]
    assert [(row.specialist_bytes, row.own) for row in found[:2]] == [(22_000, 2.5), (44_000, 2.3)]
    fraction = evidence.table()["costs"]["effective_fraction"]
    assert [row.repetitions for row in found] == pytest.approx([0.2, 0.2 / fraction, 7.5])
    assert not any(row.learned for row in found)
    path.write_text("{")
    with pytest.raises(UserError, match="not JSON lines"):
        evidence.proxies(path, "notes", curve, 1e7)
