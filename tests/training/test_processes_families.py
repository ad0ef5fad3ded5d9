"""Banks and mixtures trained in processes of their own: on 2 and 8 simulated devices (one device is
in test_meshes.py), and killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import conftest
import numpy as np
import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "train_family.py"
FAMILIES = ("projected", "soup", "mixture")
STEPS = 16
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # three families compile in each process


def start(folder, store, devices, families=FAMILIES):
    flags = f"--xla_force_host_platform_device_count={devices} {conftest.QUICK}"
    return subprocess.Popen(
        [
            sys.executable,
            str(PROGRAM),
            str(folder / "run"),
            str(store.path),
            str(folder / "out.npz"),
            *families,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )


def finish(process, folder):
    """({family: {step: loss}}, parameters)"""
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error[-3000:]
    losses = {}
    for line in map(json.loads, out.splitlines()):
        losses.setdefault(line["family"], {})[line["step"]] = line["loss"]
    return losses, np.load(folder / "out.npz")


@pytest.fixture(scope="module")
def two(store, tmp_path_factory):
    """All families on two devices."""
    folder = tmp_path_factory.mktemp("two")
    return finish(start(folder, store, 2), folder)


def test_any_number_of_devices_gives_the_same_models(two, store, tmp_path):
    """Float32 sums in another order."""
    losses, params = finish(start(tmp_path, store, 8), tmp_path)
    assert params["devices"] == 8 and two[1]["devices"] == 2
    for family in FAMILIES:
        assert sorted(losses[family]) == list(range(1, STEPS + 1))
        np.testing.assert_allclose(
            [losses[family][i] for i in range(1, STEPS + 1)],
            [two[0][family][i] for i in range(1, STEPS + 1)],
            rtol=1e-4,
            err_msg=family,
        )
        assert losses[family][STEPS] < losses[family][1] - 0.1
    assert set(params.files) == set(two[1].files)
    for name in set(params.files) - {"devices"}:
        np.testing.assert_allclose(params[name], two[1][name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_killed_and_resumed_bank_is_the_same_run(two, store, tmp_path):
    """SIGKILL behind step 9: the checkpoint of step 4 is there, that of step 8 perhaps."""
    process = start(tmp_path, store, 2, ["projected"])
    for line in process.stdout:
        if json.loads(line)["step"] == 9:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    losses, params = finish(start(tmp_path, store, 2, ["projected"]), tmp_path)
    resumed_at = min(losses["projected"]) - 1
    assert resumed_at in (4, 8)
    assert losses["projected"] == {
        i: two[0]["projected"][i] for i in range(resumed_at + 1, STEPS + 1)
    }
    for name in set(params.files) - {"devices"}:
        np.testing.assert_array_equal(params[name], two[1][name], err_msg=name)
