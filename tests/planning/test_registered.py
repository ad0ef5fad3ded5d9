"""A forecast is registered once, cannot be changed, and is scored by what came out."""

import json
import re

import pytest

from specialm.common.errors import UserError
from specialm.planning import describe, registered


def forecast(method, bits, served=True):
    return {
        "method": method,
        "bits_per_byte": bits,
        "interval_80": [bits - 0.1, bits + 0.1],
        "interval_95": [bits - 0.2, bits + 0.2],
        "served": served,
        "tokens": 1_000_000.0,
        "params": 1000.0,
    }


PLAN = {
    "domain": "notes",
    "forecasts": [
        forecast("slm_is", 2.2),
        forecast("slm", 2.3),
        forecast("llm", 2.0, served=False),
        {"method": "slm_d", "bits_per_byte": None, "served": True},
    ],
    "recommended": "slm_is",
}


def row(method, bits, seed=0, domain="notes", phase="finetuned", tokens=1_000_000):
    return {
        "method": method, "domain": domain, "phase": phase, "seed": seed,
        "train_tokens": tokens, "bits_per_byte": bits,
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    rows = [
        row("slm_is", 2.34),
        row("slm_is", 2.36, seed=1),
        row("slm", 2.1, tokens=1_500_000),
        row("llm", 1.5),
        row("slm", 9.9, phase="pretrained"),
        row("slm", 9.9, domain="macro"),
    ]
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "results.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    (tmp_path / "run" / "run.json").write_text(json.dumps({"models": {"slm": {"params": 1000}}}))
    return path


def test_it_is_written_once_with_the_date(tmp_path):
    path = tmp_path / "plans" / "notes.json"
    written = registered.write(path, PLAN)
    assert registered.read(path) == json.loads(path.read_text()) == written
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", written["registered"])
    before = path.read_bytes()
    with pytest.raises(UserError, match="is there already"):
        registered.write(path, PLAN)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["plan"]["forecasts"][0].update(bits_per_byte=2.35),
        lambda v: v["plan"].update(recommended="slm"),
        lambda v: v.update(registered="2020-01-01T00:00:00+00:00"),
        lambda v: v.pop("digest"),
    ],
)
def test_one_that_was_changed_is_refused(tmp_path, change):
    path = tmp_path / "notes.json"
    registered.write(path, PLAN)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match="was changed after"):
        registered.read(path)


def test_other_files_are_no_forecasts(tmp_path):
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(UserError, match="is no file that"):
        registered.read(tmp_path / "other.json")
    with pytest.raises(UserError, match="none.json"):
        registered.read(tmp_path / "none.json")


def test_scores_by_hand(tmp_path, results):
    value = registered.write(tmp_path / "notes.json", PLAN)
    found = registered.score(value, results)
    of = {each["method"]: each for each in found["methods"]}
    assert list(of) == ["slm_is", "slm", "llm"]
    assert of["slm_is"]["measured"] == pytest.approx(2.35) and of["slm_is"]["seeds"] == 2
    assert of["slm_is"]["error"] == pytest.approx(2.2 / 2.35 - 1)
    assert not of["slm_is"]["inside_80"] and of["slm_is"]["inside_95"]
    assert not of["llm"]["inside_95"]
    assert of["slm"]["notes"] == ["pretraining tokens: 1,500,000, planned 1,000,000"]
    # The large model is best of all and cannot be served.
    assert found["best"] == "slm" and found["regret"] == pytest.approx(2.35 / 2.1 - 1)
    text = describe.scores(found)
    assert "regret 11.90%" in text and "not as planned" in text and "SLM-is" in text


def test_a_recommended_method_that_was_not_trained_has_no_regret(tmp_path, results):
    plan = PLAN | {"recommended": "soup"}
    found = registered.score(registered.write(tmp_path / "n.json", plan), results)
    assert found["regret"] is None and "not trained" in describe.scores(found)


def test_another_domain_is_named(tmp_path, results):
    text = results.read_text().replace('"notes"', '"mine"')
    results.write_text(text)
    value = registered.write(tmp_path / "notes.json", PLAN)
    assert registered.score(value, results)["domain"] == "mine"  # the only one
    results.write_text(text + json.dumps(row("slm", 2.0, domain="yours")) + "\n")
    with pytest.raises(UserError, match="has no domain 'notes' but mine, yours"):
        registered.score(value, results)
    assert registered.score(value, results, "yours")["methods"][0]["measured"] == 2.0
