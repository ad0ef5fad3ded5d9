import json

import pytest

from specialm.common.stages import Stages


def test_a_stage_runs_once_and_again_only_when_its_inputs_change(tmp_path):
    calls = []

    def work(path):
        calls.append(path)
        (path / "out.txt").write_text(str(len(calls)))
        return {"number": len(calls)}

    first = Stages(tmp_path, quiet=True).run("a/b", {"x": 1, "y": [2]}, work)
    again = Stages(tmp_path, quiet=True).run("a/b", {"y": [2], "x": 1}, work)
    other = Stages(tmp_path, quiet=True).run("a/b", {"x": 2, "y": [2]}, work)
    assert (first.reused, again.reused, other.reused) == (False, True, False)
    assert first.path == again.path != other.path
    assert again.result == {"number": 1} and other.result == {"number": 2}
    assert (first.path / "out.txt").read_text() == "1"  # nothing overwritten


def test_a_stage_that_failed_is_unfinished_and_finds_what_it_left(tmp_path):
    def broken(path):
        (path / "half.txt").write_text("half")
        raise RuntimeError("stopped")

    stages = Stages(tmp_path, quiet=True)
    with pytest.raises(RuntimeError):
        stages.run("s", {"x": 1}, broken)
    assert stages.find("s", {"x": 1}) is None
    done = stages.run("s", {"x": 1}, lambda path: {"found": (path / "half.txt").read_text()})
    assert done.result == {"found": "half"} and not done.reused


def test_what_a_killed_write_or_removal_left_is_removed(tmp_path):
    def killed(path):
        (path / "a.json.12.tmp").write_text("half")
        (path / "clusters").mkdir()
        (path / "clusters" / "a.json.12.tmp").write_text("half")
        (path / "pieces.tmp" / "00000").mkdir(parents=True)
        raise KeyboardInterrupt

    stages = Stages(tmp_path, quiet=True)
    with pytest.raises(KeyboardInterrupt):
        stages.run("s", {}, killed)
    done = stages.run("s", {}, lambda path: {"left": [p.name for p in path.rglob("*.tmp")]})
    assert done.result == {"left": []}


def test_the_record_says_what_went_in_and_how_long_it_took(tmp_path):
    stage = Stages(tmp_path, quiet=True).run("s", {"x": 1}, lambda path: {"seconds": 12.5})
    record = json.loads((stage.path / "stage.json").read_text())
    assert record["inputs"] == {"x": 1}
    assert record["seconds"] == 12.5  # the work's own count, over all its sessions
    assert record["peak_memory_bytes"] > 1e6
