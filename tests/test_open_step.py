"""The step of the open model against PyTorch, in small."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("torch", [False, True])
def test_all_sides_begin_with_the_same_loss(tmp_path, torch):
    if torch and not importlib.util.find_spec("torch"):
        pytest.skip("torch is not installed (extra `bench`)")
    command = [sys.executable, "-m", "benchmarks.step", "--model=smollm2", "--small"]
    command += ["--repeats=1", f"--out={tmp_path / 'rows'}", *([] if torch else ["--no-torch"])]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    ours = [row for row in rows if row["side"] == "ours"]
    assert [row["dtype"] for row in ours] == ["float32", "bfloat16"]
    assert len(rows) == len(ours) or len(rows) >= 4
    for row in rows:
        assert row["loss"] == pytest.approx(ours[0]["loss"], rel=1e-3)
        assert abs(row["loss"] - np.log(512)) < 0.2
        assert row["seconds"] > 0 and row["peak_bytes"] > 1e8 and row["code"]
