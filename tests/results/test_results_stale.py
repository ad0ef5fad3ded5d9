"""Which code made the committed rows, and that results/README.md says what has changed since."""

import json
import shutil
import subprocess

import pytest

from benchmarks import stale
from specialm.common import code


def test_every_file_of_rows_is_in_the_table():
    found = {path.relative_to(stale.RESULTS).as_posix() for path in stale.RESULTS.glob("*/*.jsonl")}
    assert found == set(stale.FILES)


def test_the_readme_says_what_has_changed_since():
    text = (stale.RESULTS / "README.md").read_text()
    told = text[text.index(stale.START) + len(stale.START) : text.index(stale.END)]
    assert told.strip() == stale.table(), "python -m benchmarks.stale --markdown prints it"


def test_changes_are_of_parts_and_rows_depend_on_parts():
    assert {change.moves for change in code.CHANGES} <= set(code.PARTS)
    for rows in stale.FILES.values():
        assert rows.depends <= set(code.PARTS) and rows.changes <= len(code.CHANGES)


def test_rows_say_themselves_what_made_them(tmp_path):
    """The oldest row counts; what a file does not depend on is not told; its own commit holds."""
    name = "demo/results.jsonl"
    (tmp_path / "demo").mkdir()
    rows = [{"commit": "b", "code": "2", "changes": 4}, {"commit": "a", "code": "1", "changes": 3}]
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = stale.look(name, tmp_path)
    assert (found.commits, found.codes) == (["a", "b"], ["1", "2"])
    want = [c for c in code.CHANGES[3:] if c.moves in stale.FILES[name].depends]
    assert found.since == want and code.CHANGES[3] in want
    (tmp_path / name).write_text(json.dumps({"changes": len(code.CHANGES)}) + "\n")
    assert stale.look(name, tmp_path).since == []


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_a_commit_has_the_rooms_that_differ():
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=stale.ROOT, capture_output=True, text=True
    )
    if head.returncode:
        pytest.skip("not a repository")
    differ = stale.rooms_since(head.stdout.strip())
    assert differ is not None and set(differ) <= set(code.ROOMS)
    assert stale.rooms_since("0" * 40) is None
