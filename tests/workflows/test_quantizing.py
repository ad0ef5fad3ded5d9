"""`specialm quantize`: the run folder, what it stores, and what it costs."""

import json

import conftest
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from specialm import cli
from specialm.models import quantization, tensors, transformer
from specialm.models.quantization import Quantized
from specialm.training import runs, sharding
from specialm.workflows import listing, quantizing


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """(the folder, a dense model in it)."""
    root = tmp_path_factory.mktemp("quantize")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    argv = [f"--config={root / 'config.py'}", f"--workdir={root / 'run'}"]
    assert cli.main(["train", *argv, "--config.method=slm", "--config.model.share=mlp:all"]) == 0
    (made,) = (root / "run" / "pretrained").glob("slm-*")
    return root, made


@pytest.fixture
def command(work, capsys):
    def run(*more):
        argv = [f"--checkpoint={work[1]}", f"--workdir={work[0] / 'run'}", "--trust"]
        status = cli.main(["quantize", *argv, *more])
        captured = capsys.readouterr()
        return status, captured.out if status == 0 else captured.err

    return run


def test_the_run_folder_is_what_is_stored(work, command):
    status, out = command("--bits=4", "--json")
    assert status == 0, out
    found = json.loads(out)
    before, after = (
        runs.load(path, sharding.make_mesh()) for path in (work[1], found["checkpoint"])
    )
    stored = safetensors.load_file(f"{found['checkpoint']}/{quantizing.FILE}")
    assert sum(value.nbytes for value in stored.values()) == found["stored_bytes"]
    assert found["stored_bytes"] < 0.2 * found["float32_bytes"]
    was, now = jax.device_get(before.params), jax.device_get(after.params)
    for path, tensor in tensors.flatten(transformer.declare(before.config)):
        name, value = ".".join(path), tensors.get(now, path)
        if tensor.decay:
            turned = quantization.inputs_last(value, tensor, np)
            made = Quantized(stored[f"{name}.codes"], stored[f"{name}.scales"], turned.shape, 4)
            np.testing.assert_array_equal(quantization.dequantize(made), turned)
            apart = np.abs(value - tensors.get(was, path)).max()
            assert 0 < apart < np.abs(value).max() / 3
        else:
            np.testing.assert_array_equal(stored[name], value)
            np.testing.assert_array_equal(value, tensors.get(was, path))
    entry = after.record["ledger"][-1]
    assert entry["phase"] == "quantized" and entry["stored_bytes"] == found["stored_bytes"]
    assert [entry["phase"] for entry in after.record["ledger"]] == ["pretrained", "quantized"]
    (listed,) = [m for m in listing.find(work[0] / "run") if m.phase == "quantized"]
    assert listed.finished and listed.path.resolve() == after.path.resolve()


def test_eight_bits_cost_less_than_four_and_both_are_shown(command):
    costs = {}
    for bits in (8, 4, 3):
        found = json.loads(command(f"--bits={bits}", "--json")[1])
        sets = found["before"].keys()
        assert sets == found["heldout"].keys() == {"generic", "linalg"}
        costs[bits] = max(
            abs(found["heldout"][name]["bits_per_byte"] - found["before"][name]["bits_per_byte"])
            for name in sets
        )
    assert costs[8] < costs[4] < 0.2 and costs[8] < 2e-3 and costs[4] < costs[3]
    status, text = command("--bits=8")
    assert status == 0 and "bits per byte" in text and "linalg" in text and "% of float32" in text


def test_other_bits_are_refused(command):
    status, error = command("--bits=5")
    assert status == 2 and "--bits=5: must be one of 8, 4, 3, 2" in error
