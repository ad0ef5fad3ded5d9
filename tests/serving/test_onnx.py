"""ONNX graphs of every kind of part, run in ONNX Runtime (extra `onnx`)."""

import dataclasses
import json

import numpy as np
import pytest
from test_open_models import CONFIGS, made, random_params

from specialm import cli
from specialm.models import check, transformer
from specialm.serving import exporting, onnx_writer

ONES = ("llama untied, wide heads", "llama scaled", "qwen3", "gemma3", "gpt2")
KINDS = {name: CONFIGS[name] for name in ONES} | {
    "in both directions": dataclasses.replace(CONFIGS["gpt2"], causal=False, positions="rope"),
    "mixed": dataclasses.replace(
        CONFIGS["gemma3"], norm="layernorm", biases=True, positions="learned", global_every=0,
        query_scalar=5, exits=(1,), mlp="gelu",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_part_computes_the_same(name, tmp_path):
    """Logits and states of windows of two lengths; biases are not zero."""
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    config = KINDS[name]
    check.check(config)
    params = random_params(config)
    onnx_writer.write(tmp_path, config, params)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    for shape in ((2, 31), (1, 5)):
        tokens = np.random.default_rng(1).integers(0, config.vocab_size, shape)
        logits, states = session.run(["logits", "states"], {"tokens": tokens})
        wanted = np.asarray(transformer.logits(params, tokens, config))
        assert np.abs(wanted).max() > 1
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4)
        hidden = transformer.hidden(params, tokens, config)[transformer.LAST]
        np.testing.assert_allclose(states.reshape(hidden.shape), hidden, rtol=0, atol=1e-4)


def test_an_export_verifies_itself_whatever_the_vocabulary(vocabulary, tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    config = dataclasses.replace(KINDS["mixed"], vocab_size=vocabulary.size, exits=())
    model = made(tmp_path / "run", config, vocabulary)
    arguments = ["export", f"--checkpoint={model.path}", f"--to={tmp_path / 'out'}", "--json"]
    assert cli.main([*arguments, "--format=onnx"]) == 0
    figures = json.loads(capsys.readouterr().out)["verification"]["figures"]
    assert figures["tokens_of_text"] == 32
    assert figures["largest_difference_of_logits"] < 1e-4
    assert {"model.onnx", "vocabulary.model", "README.md", "verification.json"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_large_models_have_their_numbers_beside(bpe_vocabulary, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_writer, "IN_ONE_FILE", 1000)
    model = made(tmp_path / "run", CONFIGS["llama"], bpe_vocabulary)
    report = exporting.export(model, tmp_path / "out", "onnx")
    assert report["verification"]["figures"]["largest_difference_of_logits"] < 1e-4
    assert report["files"]["model.onnx.data"] > 3 * report["files"]["model.onnx"]


def test_without_the_extra_it_says_what_to_install(bpe_vocabulary, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    model = made(tmp_path / "run", CONFIGS["llama"], bpe_vocabulary)
    arguments = ["export", f"--checkpoint={model.path}", f"--to={tmp_path / 'out'}"]
    assert cli.main([*arguments, "--format=onnx"]) == 2
    assert "writing ONNX needs the extra 'onnx'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
