"""The tables of size golf are those of the committed rows."""

import json
from pathlib import Path

import pytest

from benchmarks import golf_table

RESULTS = Path(__file__).parents[2] / "results"
ROWS = [json.loads(line) for line in (RESULTS / "golf/rows.jsonl").read_text().splitlines()]
SIZES = sorted({row["bytes"] for row in ROWS})


@pytest.mark.parametrize("size", SIZES)
def test_the_table_is_that_of_the_rows(size):
    own = [row for row in ROWS if row["bytes"] == size]
    assert golf_table.table(own) in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("size", SIZES)
def test_the_best_entry_is_below_compressor_and_ngrams(size):
    own = {row["entry"]: row for row in ROWS if row["bytes"] == size}
    ours = [row for row in own.values() if "d_model" in row and row["fits"] and row["in_time"]]
    others = [row for row in own.values() if "d_model" not in row]
    assert len(others) == 3 and all(row["fits"] for row in others)
    best = min(row["bits_per_byte"] for row in ours)
    assert best < min(row["bits_per_byte"] for row in others)
