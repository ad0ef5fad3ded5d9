"""The tables of size golf are those of the committed rows."""

import json
from pathlib import Path

import pytest

from benchmarks import golf_table, golf_tricks

RESULTS = Path(__file__).parents[2] / "results"
ROWS = [json.loads(line) for line in (RESULTS / "golf/rows.jsonl").read_text().splitlines()]
SIZES = sorted({row["bytes"] for row in ROWS})


@pytest.mark.parametrize("size", SIZES)
def test_the_table_is_that_of_the_rows(size):
    own = [row for row in ROWS if row["bytes"] == size]
    assert golf_table.table(own) in (RESULTS / "README.md").read_text()


def test_the_table_of_tricks_is_that_of_the_rows():
    rows = [json.loads(line) for line in (RESULTS / "golf/tricks.jsonl").read_text().splitlines()]
    table = golf_table.tricks(rows)
    assert table in (RESULTS / "README.md").read_text()
    assert {row["entry"] for row in rows} >= {*golf_tricks.TRICKS}


def test_the_curve_is_of_the_best_of_each_kind():
    bits = golf_table.best(ROWS)
    assert [sorted(each) for each in bits.values()] == [SIZES] * 3
    for size in SIZES:
        assert bits[golf_table.NETWORK][size] < bits[golf_table.NGRAMS][size]


@pytest.mark.parametrize("size", SIZES)
def test_the_best_entry_is_below_compressor_and_ngrams(size):
    own = {row["entry"]: row for row in ROWS if row["bytes"] == size}
    ours = [row for row in own.values() if "d_model" in row and row["fits"] and row["in_time"]]
    others = [row for row in own.values() if "d_model" not in row]
    assert len(others) == 3 and all(row["fits"] for row in others)
    best = min(row["bits_per_byte"] for row in ours)
    assert best < min(row["bits_per_byte"] for row in others)
