import json
import os
import socket
import subprocess
import sys
import time

import pytest

from specialm.common import locks, stages
from specialm.common.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from specialm.common import locks
with locks.alone_in(Path(sys.argv[1])):
    print("has it", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path):
    """(folder, seconds) -> a process that has the folder for itself."""
    children = []

    def start(seconds):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout.readline() == "has it\n"
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_a_second_start_is_refused_with_whose_it_is(holder, tmp_path, monkeypatch):
    child = holder(60)
    monkeypatch.setenv("SPECIALM_LOCK", "refuse")
    words = f"in use by process {child.pid} on {socket.gethostname()} for 0 min.*wait"
    with pytest.raises(UserError, match=words), locks.alone_in(tmp_path):
        pytest.fail("two in one folder")


def test_a_second_start_waits_and_then_finds_the_stage_finished(tmp_path, capsys):
    """The first one's stage, by another process of the same command."""
    code = (
        "import sys, time\n"
        "from specialm.common.stages import Stages\n"
        "def work(path):\n"
        "    print('works', flush=True)\n"
        "    time.sleep(1.5)\n"
        "    return {'by': 'the first'}\n"
        "Stages(sys.argv[1], quiet=True).run('s', {}, work)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "works\n"
        found = stages.Stages(tmp_path, quiet=True).run("s", {}, lambda _: pytest.fail("twice"))
    assert (found.result, found.reused) == ({"by": "the first"}, True)
    assert "waiting for it" in capsys.readouterr().err


def test_what_a_killed_one_had_is_free(holder, tmp_path, monkeypatch):
    monkeypatch.setenv("SPECIALM_LOCK", "refuse")
    child = holder(60)
    child.kill()
    child.wait()
    with locks.alone_in(tmp_path):
        owner = json.loads((tmp_path / locks.OWNER).read_text())
        assert owner["process"] == os.getpid()
    assert not (tmp_path / locks.OWNER).exists()


def test_a_file_system_without_locks_is_told_once(tmp_path, monkeypatch, capsys):
    class Without(locks.filelock.BaseFileLock):
        def _acquire(self):
            raise NotImplementedError("no flock here")

        def _release(self):
            pass

    monkeypatch.setattr(locks.filelock, "FileLock", Without)
    for _ in range(2):
        with locks.alone_in(tmp_path):
            pass
    assert capsys.readouterr().err.count("has no locks") == 1


def test_a_mounted_bucket_is_told_to_lock_this_host_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "_mount", lambda _: ("/gcs", "fuse.gcsfuse", ["rw"]))
    with locks.alone_in(tmp_path):
        pass
    assert "passes no locks on to other hosts" in capsys.readouterr().err


def test_a_wrong_setting_is_named(holder, tmp_path, monkeypatch):
    holder(60)
    monkeypatch.setenv("SPECIALM_LOCK", "maybe")
    started = time.monotonic()
    with pytest.raises(UserError, match="SPECIALM_LOCK=maybe"), locks.alone_in(tmp_path):
        pass
    assert time.monotonic() - started < 5
