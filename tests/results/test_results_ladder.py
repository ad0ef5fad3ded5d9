"""The table of the ladder is that of its rows."""

import json
from pathlib import Path

from benchmarks import ladder

RESULTS = Path(__file__).parents[2] / "results"
ROWS = [json.loads(line) for line in (RESULTS / "ladder/rows.jsonl").read_text().splitlines()]


def test_the_table_is_that_of_the_rows():
    assert "\n".join(ladder.table(ROWS)) in (RESULTS / "README.md").read_text()


def test_the_table_of_ngrams_and_muon_are_on_the_ladder():
    kept = list(ladder.kept(ROWS))
    assert {"table of bigrams and trigrams", "Muon"} <= set(kept)
    assert all((ladder.final(ROWS, name) < ladder.final(ROWS, "start")).all() for name in kept[1:])
