"""What docs/bundles.md claims, held against the committed rows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = ("before", "after", "plain_before", "plain_after")


@pytest.fixture(scope="module")
def ten():
    lines = (ROOT / "results" / "bundle" / "rows.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["what"] == "one of ten"]


def test_the_banks_model_is_below_the_plain_one_in_every_domain(ten):
    assert len(ten) == 10
    for row in ten:
        assert row["before"] < row["plain_before"] and row["after"] < row["plain_after"]
    for now, plain, least, most in (
        ("before", "plain_before", 0.005, 0.068),
        ("after", "plain_after", 0.004, 0.018),
    ):
        gains = [1 - row[now] / row[plain] for row in ten]
        assert [round(min(gains), 3), round(max(gains), 3)] == [least, most]


def test_the_table_has_the_rows(ten):
    page = (ROOT / "docs" / "bundles.md").read_text()
    means = {name: np.mean([row[name] for row in ten]) for name in COLUMNS}
    for row in (*ten, {"domain": "mean", **means}):
        (line,) = re.findall(rf"^\| {row['domain']} \|(.*)\|$", page, re.M)
        assert [float(cell.strip(" *")) for cell in line.split("|")] == [
            round(row[name], 3) for name in COLUMNS
        ]
