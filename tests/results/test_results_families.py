"""The committed rows of what banks and mixtures cost against what docs/performance.md says."""

import re
from pathlib import Path

import pytest

from benchmarks import cells, families

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "performance.md").read_text()
KINDS = ("families", *families.FORMS)


def rows(kind: str) -> list[dict]:
    return cells.read(ROOT / "results" / "bank" / f"{kind}.jsonl")


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_that_of_the_rows(kind):
    assert families.table(kind, rows(kind)) in DOCS


def test_all_sizes_are_there():
    sizes = {(row["experts"], row["tokens_per_step"]) for row in rows("families")}
    assert sizes == {(n, t) for n in (4, 16, 64) for t in (2048, 4096, 8192, 16384)}
    for kind in families.FORMS:
        found = {(row["experts"], row["tokens_per_step"]) for row in rows(kind)}
        assert found == {(n, t) for n in (16, 64) for t in (2048, 8192)}


def test_the_ranges_of_the_sentences():
    shown = re.search(
        r"up to 16 experts, it is ([\d.]+) to ([\d.]+) from 8,192 tokens a step on\n"
        r"and ([\d.]+) to ([\d.]+) below; \*\*with 64 experts it is ([\d.]+) to ([\d.]+)\*\*",
        DOCS,
    ).groups()
    groups = [[], [], []]
    for row in rows("families"):
        few = row["experts"] <= 16
        place = (0 if row["tokens_per_step"] >= 8192 else 1) if few else 2
        groups[place].append(row["families"]["projected"]["wall_ratio"])
    wanted = [f"{pick(group):.2f}" for group in groups for pick in (min, max)]
    assert list(shown) == wanted


def test_int8_is_slower_and_bank_every_helps_most_where_the_bank_weighs_most():
    for row in rows("moments"):
        assert row["moments"]["int8"]["wall_ratio"] > row["moments"]["float32"]["wall_ratio"]
    (row,) = (r for r in rows("every") if (r["experts"], r["tokens_per_step"]) == (64, 2048))
    ratios = [row["every"][every]["wall_ratio"] for every in ("1", "8")]
    assert "from {:.2f} to {:.2f} at 8".format(*ratios) in DOCS
