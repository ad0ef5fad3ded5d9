"""GGUF in Q4_0: the codes of our own four bits, rows that do not divide, llama.cpp's answers."""

import dataclasses

import numpy as np
import pytest
from test_open_models import CONFIGS, LLAMA, made, random_params

from specialm.models import quantization, tensors, transformer
from specialm.serving import exporting, gguf_files
from specialm.workflows import quantizing

gguf = pytest.importorskip("gguf")
NAMES = {  # ours: GGUF's, of models that share nothing
    "layers.mlp.down": "blk.{y}.ffn_down.weight",
    "layers.attention.out": "blk.{y}.attn_output.weight",
    "embed.tokens": "token_embd.weight",
}


def export(path, config, params, vocabulary, dtype, monkeypatch=None):
    """The tensors of the GGUF file, by name, and the file."""
    model = made(path / "run", config, vocabulary)
    model = dataclasses.replace(model, params=params)
    if monkeypatch:
        found = {"checked": False, "why": "a test"}
        monkeypatch.setattr("specialm.serving.verify._missing", lambda *names: found)
    exporting.export(model, path / "made", "gguf", dtype)
    file = path / "made" / f"model-{dtype}.gguf"
    return {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}, file


def codes_of(tensor):
    """(codes [s, 32], scales [s]) of a tensor in Q4_0: the first half of a block in the low bits."""
    blocks = np.asarray(tensor.data).reshape(-1, 18)
    scales = blocks[:, :2].copy().view(np.float16)[:, 0]
    halves = [blocks[:, 2:] & 15, blocks[:, 2:] >> 4]
    return np.concatenate(halves, axis=1).astype(int) - 8, scales


@pytest.mark.parametrize("name", ["llama untied, wide heads", "gpt2"])
def test_four_bits_of_ours_are_exported_without_a_second_rounding(
    name, bpe_vocabulary, tmp_path, monkeypatch
):
    config = CONFIGS[name]
    stored = quantizing.pack(random_params(config), config, 4)
    params = quantizing.unpack(stored, random_params(config), config)
    found, file = export(tmp_path, config, params, bpe_vocabulary, "q4_0", monkeypatch)
    kinds = {tensor.tensor_type.name for tensor in found.values()}
    assert kinds == {"Q4_0", "F32"}
    for ours, theirs in NAMES.items():
        layers = range(config.num_layers) if "{y}" in theirs else (0,)
        parts = [codes_of(found[theirs.format(y=y)]) for y in layers]
        codes, scales = (np.concatenate(each) for each in zip(*parts, strict=True))
        own = stored[ours]
        np.testing.assert_array_equal(codes, quantization._unpacked(own.codes, 4))
        np.testing.assert_array_equal(scales.view(np.uint16), own.scales_s.view(np.uint16))
    back = gguf_files.open_file(file, tmp_path)
    again = back.load(back.sizes())
    for path, _ in tensors.flatten(transformer.declare(config)):
        np.testing.assert_array_equal(
            np.asarray(tensors.get(again, path)), tensors.get(params, path), str(path)
        )


def test_other_weights_are_rounded_by_the_package(bpe_vocabulary, tmp_path, monkeypatch):
    params = random_params(LLAMA)
    found, _ = export(tmp_path, LLAMA, params, bpe_vocabulary, "q4_0", monkeypatch)
    kind = gguf.GGMLQuantizationType.Q4_0
    wanted = gguf.quants.quantize(params["layers"]["mlp"]["down"][1].T.copy(), kind)
    np.testing.assert_array_equal(np.asarray(found["blk.1.ffn_down.weight"].data), wanted)


def test_rows_that_do_not_divide_into_blocks_are_float16(bpe_vocabulary, tmp_path, monkeypatch):
    config = dataclasses.replace(LLAMA, d_ff=48)
    params = random_params(config)
    found, _ = export(tmp_path, config, params, bpe_vocabulary, "q4_0", monkeypatch)
    down = found["blk.0.ffn_down.weight"]
    assert down.tensor_type.name == "F16"
    wanted = params["layers"]["mlp"]["down"][0].T.astype(np.float16)
    np.testing.assert_array_equal(np.asarray(down.data), wanted)
    assert found["blk.0.ffn_up.weight"].tensor_type.name == "Q4_0"


@pytest.mark.parametrize("name", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_llama_cpp_computes_the_same(name, bpe_vocabulary, tmp_path):
    pytest.importorskip("xllamacpp")
    config = CONFIGS[name]
    model = made(tmp_path / "run", config, bpe_vocabulary)
    report = exporting.export(model, tmp_path / "made", "gguf", "q4_0")["verification"]
    print(name, report["figures"])
    assert report["checked"] and report["figures"]["continuations_of_text"] > 4
    assert report["figures"]["largest_difference_of_log_probabilities"] < 0.2
