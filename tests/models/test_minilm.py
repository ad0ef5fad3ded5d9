"""MiniLM's forward pass against a plain NumPy float64 BERT and against reference vectors."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy_bert import HEADS, LAYERS, VOCABULARY, numpy_bert, random_tensors

from specialm.clustering.encoders import MiniLM, find_minilm
from specialm.common.errors import UserError
from specialm.models import minilm

REFERENCE = Path(__file__).parent / "minilm_reference.json"


def padded(texts: list[list[int]], length: int, fill: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.full((len(texts), length), fill, np.int32)
    mask = np.zeros((len(texts), length), np.int32)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return ids, mask


@pytest.mark.parametrize("seed", [0, 1])
def test_forward_equals_numpy_float64_and_ignores_padding(seed):
    tensors, config = random_tensors(seed), minilm.Config(HEADS, 1e-12)
    params = minilm.from_tensors(tensors, LAYERS, config)
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, VOCABULARY, n).tolist() for n in (1, 2, 7, 12, 16)]
    expected = np.stack([numpy_bert(tensors, text) for text in texts])
    for fill in (0, 33):
        found = minilm.apply(params, *padded(texts, 16, fill), config)
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_bfloat16_products_are_close():
    tensors, config = random_tensors(), minilm.Config(HEADS, 1e-12)
    params = minilm.from_tensors(tensors, LAYERS, config, "bfloat16")
    assert params.layers.mlp_in.weight.dtype == "bfloat16"
    text = list(range(9))
    found = minilm.apply(params, *padded([text], 9, 0), config)
    np.testing.assert_allclose(found[0], numpy_bert(tensors, text), atol=0.02)


def test_loads_a_folder_in_the_hugging_face_layout(tmp_path):
    from safetensors.numpy import save_file

    tensors = random_tensors(3)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "layer_norm_eps": 1e-12}
        )
    )
    params, config = minilm.load(tmp_path)
    ids, mask = padded([[4, 5, 6]], 4, 0)
    found = jax.jit(minilm.apply, static_argnums=3)(params, ids, mask, config)
    np.testing.assert_allclose(found[0], numpy_bert(tensors, [4, 5, 6]), atol=2e-6)


@pytest.fixture(scope="module")
def real_encoder() -> MiniLM:
    try:
        folder = find_minilm()
    except UserError as error:
        if os.environ.get("SPECIALM_MINILM"):
            raise
        pytest.skip(f"MiniLM's weights are not on this machine: {error}")
    return MiniLM(folder)


def test_reference_vectors(real_encoder):
    reference = json.loads(REFERENCE.read_text())
    sentences = reference["sentences"]
    ids = real_encoder.token_ids(sentences)
    assert ids == [[i for i in row if i != 0] for row in reference["input_ids"]]
    vectors = real_encoder.encode(sentences, progress=False)
    np.testing.assert_allclose(vectors, reference["full"], atol=1e-5)
    np.testing.assert_allclose(vectors[:, :8], reference["first8"], atol=1e-5)
    np.testing.assert_allclose(vectors @ vectors.T, reference["cos"], atol=1e-5)


def test_length_is_limited_by_max_tokens_and_by_nothing_else(real_encoder):
    """The tokeniser's file fixes padding and truncation at 128 tokens."""
    ids = real_encoder.token_ids(["word " * 500, "word"])
    assert [len(row) for row in ids] == [256, 3]
