"""The tables of tiny models are those of the committed rows."""

import json
from pathlib import Path

import pytest

from benchmarks import tiny, tiny_speed

RESULTS = Path(__file__).parents[2] / "results"


def rows(name):
    return [json.loads(line) for line in (RESULTS / "tiny" / name).read_text().splitlines()]


def test_the_table_of_speeds_is_that_of_the_rows():
    assert tiny_speed.table(rows("speed.jsonl")) in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("name", ["rows.jsonl", "wide.jsonl", "long.jsonl"])
def test_the_table_is_that_of_the_rows(name):
    assert "\n".join(tiny.table(rows(name))) in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("name", ["rows.jsonl", "wide.jsonl"])
def test_every_model_has_three_seeds_at_its_best_rate(name):
    final = [row for row in rows(name) if not row["search"]]
    found = {(row["model"], row["seed"]) for row in final}
    assert found == {(model, seed) for model in tiny.MODELS for seed in range(3)}
    best = {}
    for row in (row for row in rows("rows.jsonl") if row["search"]):
        bits = sum(row["valid_bits_per_byte"].values())
        best[row["model"]] = min(best.get(row["model"], (9e9, 0)), (bits, row["learning_rate"]))
    assert {row["model"]: row["learning_rate"] for row in final} == {
        model: rate for model, (_, rate) in best.items()
    }
