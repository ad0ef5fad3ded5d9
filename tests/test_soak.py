"""The short form of `make soak`: a few kills, signals, damages, two starts at once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
def test_a_few_of_everything_go_well():
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "soak", "--short"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    counts = dict(re.findall(r"^  (.+): ([\d,]+)$", done.stdout, re.M))
    assert int(counts["kills train slm_is: killed"]) >= 1
    assert counts["pairs train slm_is: pairs"] == counts["signals train slm_is: signals"] == "1"
    tried = sum(int(n) for name, n in counts.items() if name.startswith("bits"))
    named = sum(int(n) for name, n in counts.items() if name.endswith(": named"))
    assert tried == 11 and named > 5
