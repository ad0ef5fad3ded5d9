"""`specialm init`: a run folder of other sizes, which training goes on from."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from specialm import cli
from specialm.models import transformer
from specialm.training import runs, sharding
from specialm.workflows import resizing

SIZES = transformer.Config(
    vocab_size=512, context=16, num_layers=2, d_model=8, num_heads=2, d_ff=16
)


@pytest.fixture(scope="module")
def base(bpe_vocabulary, tmp_path_factory):
    """The run folder of a model that others trained."""
    path = tmp_path_factory.mktemp("base") / "pretrained" / "open"
    runs.save(path, jax.device_get(transformer.init(SIZES, jax.random.key(0))))
    entry = {"phase": "imported", "tokens": 0, "flops": 0, "seconds": 0.0, "model": "Theirs"}
    imported = {
        "name": "Theirs",
        "format": "hf",
        "source": "somewhere",
        "licence": "mit",
        "sha256": "0" * 64,
        "architecture": "gpt2",
        "context": 16,
    }
    origin = {"settings": {"data": {"context": 16}}, "imported": imported}
    runs.describe(path, SIZES, bpe_vocabulary, "imported", "", 0, [entry], origin)
    return path


@pytest.fixture
def init(capsys, tmp_path, base):
    def run(*argv):
        status = cli.main(["init", f"--from={base}", f"--workdir={tmp_path}", "--json", *argv])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if status == 0 else captured.err

    return run


def test_a_wider_model_is_like_any_other_run_folder(init, base):
    """It computes the same, says where it comes from and has settings of its own sizes."""
    status, found = init(
        "--method=hypercloning", "--config.model.d_model=16", "--config.model.num_heads=4"
    )
    assert status == 0, found
    made, before = (runs.load(path, sharding.make_mesh()) for path in (found["checkpoint"], base))
    assert made.config == dataclasses.replace(SIZES, d_model=16, num_heads=4)
    inputs_BxL = np.arange(32).reshape(2, 16)
    np.testing.assert_allclose(
        transformer.logits(made.params, inputs_BxL, made.config),
        transformer.logits(before.params, inputs_BxL, SIZES),
        rtol=1e-4,
        atol=1e-5,
    )
    assert made.record["imported"] == before.record["imported"]
    assert [entry["phase"] for entry in made.record["ledger"]] == ["imported", "initialised"]
    sizes = made.record["settings"]["model"]
    assert (sizes["d_model"], sizes["num_heads"], sizes["num_layers"]) == (16, 4, 2)


def test_heads_keep_their_size(init):
    """Half the width and both heads: a head is not half as large, but said."""
    status, found = init("--method=selection", "--config.model.d_model=4")
    assert status == 0, found
    made = runs.load(found["checkpoint"], sharding.make_mesh())
    assert made.config == dataclasses.replace(SIZES, d_model=4, head_size=4)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "init needs sizes: one or more of --config.model.num_layers"),
        (("--config.model.head_size=2",), "init changes sizes alone"),
        (("--config.data.context=2",), "init changes sizes alone"),
        (("--config.model.d_model=16",), "model.d_model=16: must be at most 8"),
        (("--config.model.d_model=0",), "model.d_model=0: must be at least 1"),
        (("--config.model.d_model=4", "--method=best"), "--method=best: must be one of selection"),
        (("--config.model.d_model=4", "--noise=x"), "--noise=x: must be a number"),
        (("--config.model.d_model=4", "--noise=-1"), "--noise=-1.0: must be at least 0"),
        (("--config=x.py", "--config.model.d_model=4"), "init takes sizes as --config.model"),
    ],
)
def test_what_is_wrong_is_named(init, argv, message):
    status, error = init(*argv)
    assert status == 2 and message in error, error


def test_a_grouped_model_keeps_its_groups():
    source = dataclasses.replace(SIZES, num_heads=6, num_kv_heads=2, head_size=4)
    one = resizing.target_sizes(source, ["--config.model.num_heads=4"])
    assert one == dataclasses.replace(source, num_heads=4)
