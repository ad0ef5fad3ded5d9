"""Training in processes of its own: on eight simulated devices, and killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import conftest
import numpy as np
import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "train_tiny.py"


def start(workdir, store, out, devices=1):
    flags = f"--xla_force_host_platform_device_count={devices} {conftest.QUICK}"
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(workdir), str(store.path), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )


def finish(process):
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error[-3000:]
    return {line["step"]: line["loss"] for line in map(json.loads, out.splitlines())}


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """An undisturbed run on one device: its losses and parameters."""
    folder = tmp_path_factory.mktemp("whole")
    losses = finish(start(folder / "run", store, folder / "out.npz"))
    assert sorted(losses) == list(range(1, 41))
    return losses, np.load(folder / "out.npz")


def test_eight_devices_give_what_one_gives(whole, store, tmp_path):
    """Float32 sums in another order: equal to 1e-4 after 40 steps."""
    losses = finish(start(tmp_path / "run", store, tmp_path / "out.npz", devices=8))
    params = np.load(tmp_path / "out.npz")
    assert params["devices"] == 8 and whole[1]["devices"] == 1
    np.testing.assert_allclose(
        [losses[i] for i in range(1, 41)], [whole[0][i] for i in range(1, 41)], rtol=1e-4
    )
    for name in params.files:
        if name != "devices":
            np.testing.assert_allclose(
                params[name], whole[1][name], rtol=1e-3, atol=1e-4, err_msg=name
            )


def test_killed_and_resumed_is_the_same_run(whole, store, tmp_path):
    """SIGKILL behind step 25; the newest checkpoint, of step 20, is then damaged as well, so that
    the run has to fall back to the one of step 10."""
    process = start(tmp_path / "run", store, tmp_path / "out.npz")
    for line in process.stdout:
        if json.loads(line)["step"] == 25:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    steps = sorted(
        int(p.name) for p in (tmp_path / "run/checkpoints").iterdir() if p.name.isdigit()
    )
    assert steps and steps[-1] in (10, 20)
    if len(steps) > 1:
        for file in (tmp_path / "run/checkpoints" / str(steps[-1])).rglob("*"):
            if file.is_file():
                os.truncate(file, 0)
    losses = finish(start(tmp_path / "run", store, tmp_path / "out.npz"))
    resumed_at = min(losses) - 1
    assert resumed_at == steps[0]
    assert losses == {i: whole[0][i] for i in range(resumed_at + 1, 41)}
    params = np.load(tmp_path / "out.npz")
    for name in params.files:
        np.testing.assert_array_equal(params[name], whole[1][name], err_msg=name)
    records = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in records] == list(range(1, 41))
