"""The ladder of the recipe: what is kept of its rungs, its table, and a climb in small."""

import json

import conftest
import pytest

from benchmarks import ladder
from benchmarks.ladder import RATE, Rung


def rows_of(**bits: list[float]) -> list[dict]:
    """Rows of rungs, each with its bits per byte by seed."""
    recipe = {**ladder.START, RATE: 4e-3}
    return [
        {"rung": name, "recipe": recipe, "seed": seed, "search": False, "macro": value}
        | {"params": 10, "tokens": 20}
        for name, values in bits.items()
        for seed, value in enumerate(values)
    ]


@pytest.fixture
def rungs(monkeypatch):
    found = {name: Rung({"train.batch_size": 8}) for name in ("a", "b", "c", "d")}
    monkeypatch.setattr(ladder, "RUNGS", found)


@pytest.mark.usefixtures("rungs")
def test_a_rung_is_kept_if_its_whole_interval_is_better_than_the_best_before():
    rows = rows_of(a=[2.0, 2.1, 2.2], b=[1.9, 2.15, 2.15], c=[1.9, 2.0, 2.09], d=[1.95, 2.0, 2.05])
    assert list(ladder.kept(rows)) == ["a", "c"]  # b varies, d is no better than c
    assert ladder.is_better(rows[:9], "c") and not ladder.is_better(rows, "d")
    lines = ladder.table(rows)
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["yes", "no", "yes", "no"]
    # c against a: -5.00%, -4.76%, -5.00%; t of two degrees of freedom is 4.303.
    assert "-4.9% ± 0.3" in lines[4]


@pytest.mark.usefixtures("rungs")
def test_rows_of_the_search_decide_nothing():
    rows = rows_of(a=[2.0, 2.1], b=[1.9, 1.99])
    rows += [{**rows[2], "search": True, "macro": 9.0, "seed": 0}]
    assert list(ladder.kept(rows)) == ["a", "b"]


@pytest.mark.slow
def test_a_climb_in_small(tmp_path, monkeypatch):
    """The last rung goes on from what was kept; given again, nothing is trained again."""
    conftest.write_docstrings(tmp_path)
    (tmp_path / "config.py").write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    size = {"model.d_model": 8, "model.num_heads": 2, "model.d_ff": 16, "data.context": 16}
    start = ladder.START | size | {"data.vocabulary_size": 400, "train.batch_size": 4}
    monkeypatch.setattr(ladder, "START", start)
    found = {"start": Rung({}), "rates": Rung({"train.optimizer": "muon"}, rates=True)}
    monkeypatch.setattr(ladder, "RUNGS", found)
    monkeypatch.setattr(ladder.processor_time, "tokens_for", lambda *_: 512)
    monkeypatch.setattr(ladder.demo, "fetch", lambda config: None)
    out = tmp_path / "rows.jsonl"
    words = [f"--out={out}", f"--workdir={tmp_path / 'runs'}", f"--config={tmp_path / 'config.py'}"]
    ladder.main([*words, "--minutes=0.1", "--seeds=2", "--curve=0.2"])
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["rung"] for row in rows] == [*["start"] * 2, *["rates"] * 5, "first recipe"] + [
        "last recipe"
    ]
    tried = {row["recipe"][RATE]: row["macro"] for row in rows[2:5]}
    assert rows[5]["recipe"][RATE] == min(tried, key=tried.get)
    assert rows[5]["macro"] == min(tried.values())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("model.json")}
    ladder.main([*words, "--minutes=0.1", "--seeds=2", "--curve=0.2"])
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["macro"] for row in again] == [row["macro"] for row in rows]
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("model.json")}
