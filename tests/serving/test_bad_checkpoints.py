"""What is wrong with a GGUF file or the files around safetensors is said in a sentence. (What is
wrong inside of a Hugging Face folder: test_open_models.py.)
"""

import dataclasses
import json

import numpy as np
import pytest
from test_open_models import CONFIGS, LLAMA, NOT_CHECKED, copied, exported, made  # noqa: F401

from specialm.common.errors import UserError
from specialm.serving import exporting, gguf_writer
from specialm.workflows import open_models


def written(vocabulary, folder, patch, config=LLAMA):
    """model-f32.gguf of an export, with whatever is patched in the writer."""
    patch.setattr("specialm.serving.verify._missing", lambda *names: NOT_CHECKED)
    model = made(folder / "run", config, vocabulary)
    exporting.export(model, folder / "out", "gguf")
    return folder / "out" / "model-f32.gguf"


def tensors(change):
    """Patches the tensors that are written, {name: array}."""

    def apply(patch, write=gguf_writer._tensors):
        def changed(*arguments):
            found = dict(write(*arguments))
            change(found)
            return iter(found.items())

        patch.setattr(gguf_writer, "_tensors", changed)

    return apply


def fields(**changes):
    """Patches the sizes that are written."""

    def apply(patch, write=gguf_writer._fields):
        patch.setattr(gguf_writer, "_fields", lambda *given: write(*given) | changes)

    return apply


def method(name, value):
    """Patches what a method of GGUFWriter is told."""

    def apply(patch):
        gguf = pytest.importorskip("gguf")
        told = getattr(gguf.GGUFWriter, name)
        patch.setattr(gguf.GGUFWriter, name, lambda self, _: told(self, value))

    return apply


def halved(found):
    found["blk.1.ffn_up.weight"] = np.ascontiguousarray(found["blk.1.ffn_up.weight"][:7])


def spoilt(found):
    found["output_norm.weight"] = np.full_like(found["output_norm.weight"], np.inf)


BAD = {
    "missing": (
        tensors(lambda found: found.pop("blk.1.ffn_up.weight")),
        r"1 tensors are missing \(model.layers.1.mlp.up_proj.weight\): the file is incomplete",
    ),
    "unknown": (
        tensors(lambda found: found.update({"blk.0.attn_q.bias": np.ones(32, np.float32)})),
        r"1 tensors have no place in specialm's parts \(blk.0.attn_q.bias\)",
    ),
    "scaled positions": (
        tensors(lambda found: found.update({"rope_freqs.weight": np.ones(8, np.float32)})),
        "rope_freqs .scaled rotary positions.: specialm's parts have not",
    ),
    "shape": (tensors(halved), r"up_proj.weight has the shape \[7, 32\].*must be \[64, 32"),
    "not finite": (tensors(spoilt), "model.norm.weight holds numbers that are not finite"),
    "no embedding": (
        tensors(lambda found: found.pop("token_embd.weight")),
        "has no embedding of tokens; the file is incomplete",
    ),
    "experts": (fields(expert_count=8), "expert_count=8: specialm's parts do not have that"),
    "window": (
        fields(**{"attention.sliding_window": 16}),
        "attention.sliding_window=16: specialm's parts do not have that",
    ),
    "tokenizer's kind": (
        method("add_tokenizer_model", "llama"),
        "its tokenizer is 'llama', only byte-level BPE .* import the model's Hugging Face folder",
    ),
    "how words are cut": (
        method("add_tokenizer_pre", "tekken"),
        "it cuts words as 'tekken', which is not in specialm's table",
    ),
    "tokenizer of another model": (
        tensors(lambda found: found.update({"token_embd.weight": np.ones((500, 32), np.float32)})),
        "the tokenizer has 512 tokens, the model's embedding 500 rows: it is the tokenizer of an",
    ),
    "tokens without kinds": (
        method("add_token_list", [f"token{i}" for i in range(600)]),
        "has 600 tokens and the kinds of 512: its tokenizer is damaged or pieced together",
    ),
    "start": (
        method("add_bos_token_id", 512),
        "tokenizer.ggml.bos_token_id=512: is none of its 512 tokens",
    ),
    "heads": (fields(**{"attention.head_count_kv": 3}), "num_kv_heads=3 does not divide"),
    "base": (fields(**{"rope.freq_base": "far"}), "its sizes hold a value that is none .*'far'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_gguf_file_is_named(name, bpe_vocabulary, tmp_path):
    pytest.importorskip("gguf")
    spoil, message = BAD[name]
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch)
        path = written(bpe_vocabulary, tmp_path, patch)
    with pytest.raises(UserError, match=message):
        open_models.import_model({"gguf": str(path)}, tmp_path / "work", 0)
    assert not list(tmp_path.glob("work/pretrained/*/model.json"))


def test_a_gguf_file_that_is_cut_short_anywhere_or_of_another_kind(
    bpe_vocabulary, tmp_path, monkeypatch
):
    pytest.importorskip("gguf")
    path = written(bpe_vocabulary, tmp_path, monkeypatch)
    whole = path.read_bytes()
    for size in (0, 3, 10, 100, len(whole) // 3, len(whole) - 100):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="is no GGUF file, damaged or cut short"):
            open_models.import_model({"gguf": str(path)}, tmp_path / "work", 0)
    other = whole.replace(b"general.architecture", b"general.architectura", 1)
    path.write_bytes(other)
    with pytest.raises(UserError, match="the architecture None cannot be imported; llama, qwen3"):
        open_models.import_model({"gguf": str(path)}, tmp_path / "work", 0)
    with pytest.raises(UserError, match=r"--gguf=.*out: no such file"):
        open_models.import_model({"gguf": str(path.parent)}, tmp_path / "work", 0)


def test_scores_of_another_scale_do_not_leave_as_gguf(bpe_vocabulary, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    config = dataclasses.replace(CONFIGS["gemma3"], query_scalar=5)
    with pytest.raises(
        UserError, match="llama.cpp computes gemma3 with model.query_scalar=16 alone"
    ):
        written(bpe_vocabulary, tmp_path, monkeypatch, config)
    assert not (tmp_path / "out").exists()


def index(weight_map):
    def apply(folder):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    return apply


def emptied(name):
    return lambda folder: (folder / name).write_bytes(b"")


def adapter_alone(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")


def config_changed(**values):
    def apply(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


FOLDERS = {
    "a word for a number": (
        config_changed(rms_norm_eps="small"),
        "its sizes hold a value that is none .*small",
    ),
    "a list for a table": (
        config_changed(rope_parameters=[1]),
        "its sizes hold a value that is none",
    ),
    "no heads": (config_changed(num_key_value_heads="two"), "num_kv_heads='two': must be"),
    "a missing shard": (
        index({"a": "model-00001-of-00002.safetensors"}),
        "model-00001-of-00002.safetensors of model.safetensors.index.json is not there; download",
    ),
    "a shard outside": (index({"a": "../../etc/passwd"}), "has no weight_map of file names"),
    "no map": (index(None), "has no weight_map of file names"),
    "an empty file": (emptied("model.safetensors"), "is damaged or cut short"),
    "empty sizes": (emptied("config.json"), "config.json: is not JSON"),
    "an empty tokenizer": (emptied("tokenizer.json"), "not a tokenizer.json"),
    "an adapter": (adapter_alone, "config.json: no such file; --hf takes the folder of a whole"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bad_folder_is_named(name, exported, tmp_path):  # noqa: F811
    spoil, message = FOLDERS[name]
    folder = copied(exported, tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=message):
        open_models.import_model({"hf": str(folder)}, tmp_path / "work", 0)
    assert not list(tmp_path.glob("work/pretrained/*/model.json"))
