"""The benchmark of tables of n-grams in small."""

import json

import conftest
import pytest

from benchmarks import table_step


def test_a_row_for_each_table_and_one_without(tmp_path):
    conftest.write_docstrings(tmp_path)
    (tmp_path / "config.py").write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    out = tmp_path / "rows.jsonl"
    words = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    table_step.main([*words, f"--out={out}", "--rows=200,3000", "--rounds=2"])
    none, small, large = (json.loads(line) for line in out.read_text().splitlines())
    assert [row["rows_of_a_length"] for row in (none, small, large)] == [0, 200, 3000]
    assert none["against_none"] == 1
    assert large["params"] - small["params"] == 2 * 2800 * 8  # bigrams and trigrams, width 8
    for row in (none, small, large):
        assert row["step_ms"] > 0
        assert row["against_none"] == pytest.approx(row["step_ms"] / none["step_ms"], rel=0.9)
