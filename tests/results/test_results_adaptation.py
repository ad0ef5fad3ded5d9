"""The tables of new vocabularies are those of the committed rows."""

import json
from pathlib import Path

import pytest

from benchmarks import adaptation_domains, adaptation_summary, adaptation_tasks, adaptation_tokens

RESULTS = Path(__file__).parents[2] / "results"
README = (RESULTS / "README.md").read_text()


def rows(name):
    return [json.loads(line) for line in (RESULTS / "adaptation" / name).read_text().splitlines()]


def test_languages():
    found = rows("rows.jsonl")
    for kind in {row["kind"] for row in found}:
        of_kind = [row for row in found if row["kind"] == kind]
        assert "\n".join(adaptation_summary.table(of_kind)) in README
        for via in adaptation_summary.SHALLOW:
            for line in adaptation_summary.compared(of_kind, via):
                assert line in README


@pytest.mark.parametrize(
    ("name", "summary"),
    [
        ("domains.jsonl", adaptation_domains.summary),
        ("tasks.jsonl", adaptation_tasks.summary),
        ("tokens.jsonl", adaptation_tokens.summary),
    ],
)
def test_own_vocabularies_and_tasks(name, summary):
    assert "\n".join(summary(rows(name))) in README


def test_the_body_is_paid_for_by_all_ways_alike():
    """Of each seed and language the same FLOPs, and what serves all languages apart from them."""
    for row in rows("rows.jsonl"):
        assert (row["one_off_flops"] > 0) == row["via"].startswith("mini")
        same = [
            other["flops"]
            for other in rows("rows.jsonl")
            if all(other[name] == row[name] for name in ("kind", "via", "tokens"))
        ]
        assert max(same) - min(same) <= 0.01 * max(same)
