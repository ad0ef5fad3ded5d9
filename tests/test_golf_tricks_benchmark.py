"""Golf's tricks are planned by steps that are timed in turn, and told against the entry without."""

import json

import conftest
import pytest

from benchmarks import golf, golf_entries, golf_table, golf_tricks, recipe_table
from benchmarks.golf_entries import Entry


@pytest.fixture
def entries(monkeypatch):
    """Three small ones: the second is trained like the first, the third for few bits."""
    small = {"num_layers": 1}
    found = {
        "plain": Entry(small),
        "8 bits": Entry(small, bits=8, over="plain"),
        "trained for 4 bits": Entry(small, train={"quantize_bits": 4}, over="plain"),
    }
    for module in (golf, golf_entries, golf_table, golf_tricks):
        monkeypatch.setattr(module, "ENTRIES", found)
    monkeypatch.setattr(golf_tricks, "TRICKS", list(found))
    return found


@pytest.mark.slow
def test_plans_and_rows_in_small(entries, tmp_path, monkeypatch):
    conftest.write_docstrings(tmp_path)
    (tmp_path / "config.py").write_text(conftest.BANK_CONFIG.format(root=tmp_path))
    timed = {}

    def fake(sides, rounds, count):
        for run in sides.values():
            run(1)
        timed.update(zip(sides, (0.5, 0.7), strict=True))
        return {name: [timed[name]] for name in sides}

    monkeypatch.setattr(golf_tricks.turns, "timed", fake)
    monkeypatch.setattr(golf, "baselines", lambda args: [])
    out = tmp_path / "rows.jsonl"
    words = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}"]
    words += ["--minutes=0.1", "--bytes=60000", f"--out={out}"]
    golf_tricks.main(words)
    rows = {row["entry"]: row for row in map(json.loads, out.read_text().splitlines())}
    step = rows["plain"]["tokens"] // 12  # 6 seconds of steps of half a second
    assert rows["8 bits"]["tokens"] == rows["plain"]["tokens"] == 12 * step
    assert rows["trained for 4 bits"]["tokens"] == 10 * step  # of 0.6 seconds on average
    lines = golf_table.tricks(recipe_table.read(out)).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["", "plain", "plain"]
    change = 100 * (rows["8 bits"]["bits_per_byte"] / rows["plain"]["bits_per_byte"] - 1)
    assert f"{change:+.1f}%" in lines[3]
