import re
import time

import pytest

from specialm.common import progress


@pytest.fixture
def log(monkeypatch, capsys):
    """What was written to a standard error that is no terminal."""
    monkeypatch.delenv("SPECIALM_PROGRESS", raising=False)
    return lambda: capsys.readouterr().err


def test_a_log_has_a_line_now_and_then(log, monkeypatch):
    """However often figures change; each line has what is done, the time left and the figures."""
    monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0.05)
    started = time.monotonic()
    with progress.bar(100, "pretraining slm", "step", initial=20) as bar:
        for step in range(80):
            bar.set_postfix(loss=f"{step}.5")
            bar.update(1)
            time.sleep(0.003)
    most = 4 + (time.monotonic() - started) / 0.05
    text = log()
    lines = text.splitlines()
    assert 4 <= len(lines) <= most and "\r" not in text and text.endswith("\n")
    assert all(line.startswith("pretraining slm: ") and len(line) < 100 for line in lines)
    assert "20.0/100 [" in lines[0] and "100/100 [" in lines[-1] and "loss=79.5" in lines[-1]
    assert re.search(r"\[00:00<\d\d:\d\d, +[\d.]+k?step/s, loss=\d+\.5\]$", lines[2]), lines[2]


def test_items_that_nobody_has_counted_and_none_at_all(log):
    for total in (None, 0):
        with progress.bar(total, "reading", "doc") as bar:
            bar.update(0 if total == 0 else 3)
    text = log()
    assert "\r" not in text and text.count("\n") == 4


def test_it_can_be_silenced(log, monkeypatch):
    monkeypatch.setenv("SPECIALM_PROGRESS", "0")
    with progress.bar(3, "reading") as bar:
        bar.update(3)
    assert log() == ""
