"""Bits per byte do not depend on how a text is cut: one distribution over texts, two vocabularies,
through window stores and scoring."""

import json

import conftest
import jax
import numpy as np
import pytest

from specialm.data import vocabularies
from specialm.data.vocabularies.tokenizer_json import TokenizerJson
from specialm.models import transformer
from specialm.training import scoring, sharding, step

LETTERS = "abcd"
END = 0.05  # the probability that a text ends after a letter


def of_pairs(folder):
    """A vocabulary of single letters and of pairs of letters, which are merged wherever they can
    be: two letters at a time."""
    names = ["<|endoftext|>", *LETTERS, *(a + b for a in LETTERS for b in LETTERS)]
    layout = {
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": names[0], "special": True, "single_word": False}
            | dict.fromkeys(("lstrip", "rstrip", "normalized"), False)
        ],
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "[a-d]{2}"},
            "behavior": "Isolated",
            "invert": False,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
        | {"use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [f"{a} {b}" for a in LETTERS for b in LETTERS],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(layout))
    return TokenizerJson(folder / "tokenizer.json")


def constant_model(log_p_V):
    """A model whose every state is the same, so that its logits are `log_p_V`."""
    config = transformer.Config(
        vocab_size=len(log_p_V),
        context=conftest.CONTEXT,
        num_layers=1,
        d_model=4,
        num_heads=2,
        d_ff=4,
        head="untied",
    )
    params = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), transformer.abstract(config)
    )
    params["heads"]["last"]["norm"]["bias"] = np.array([1, 0, 0, 0], np.float32)
    params["heads"]["last"]["out"][:, 0] = log_p_V
    return config, params


def bits_per_byte(vocabulary, log_p_V, texts, folder):
    store = conftest.build_store(folder, vocabulary, texts)
    config, params = constant_model(log_p_V)
    mesh = sharding.make_mesh(8)
    scored = scoring.score(
        step.make_score_step(config, mesh), params, store, np.arange(len(store)), 8, mesh
    )
    assert scored.bytes == sum(map(len, texts))
    return scored.bits_per_byte, scored.tokens


@pytest.mark.parametrize("seed", [0, 1])
def test_one_distribution_through_two_segmentations(tmp_path, seed):
    """Letters are drawn independently; a text ends after each with probability END. What the
    vocabulary of pairs gives to single letters, no text of an even size has."""
    rng = np.random.default_rng(seed)
    q = dict(zip(LETTERS, rng.dirichlet(np.ones(len(LETTERS))), strict=True))
    sizes = 2 * rng.geometric(END, 40)
    texts = ["".join(rng.choice(list(q), size, p=list(q.values()))) for size in sizes]
    by_bytes = vocabularies.train([], tmp_path / "v", 259, "bytes")
    by_pairs = of_pairs(tmp_path)
    log_bytes, log_pairs = np.full(by_bytes.size, -1e9), np.full(by_pairs.size, -1e9)
    for a in LETTERS:
        log_bytes[by_bytes.encode([a])[0][0]] = np.log(q[a] * (1 - END))
        log_pairs[by_pairs.encode([a])[0][0]] = np.log(q[a] * END * (1 - END))
        for b in LETTERS:
            log_pairs[by_pairs.encode([a + b])[0][0]] = np.log(q[a] * q[b] * (1 - END) ** 2)
    log_bytes[by_bytes.eos] = log_pairs[by_pairs.eos] = np.log(END)
    np.testing.assert_allclose([np.exp(log).sum() for log in (log_bytes, log_pairs)], 1)
    by_hand = -sum(np.log(q[a] * (1 - END)) for text in texts for a in text) - 40 * np.log(END)
    one, letters = bits_per_byte(by_bytes, log_bytes, texts, tmp_path / "a")
    two, pairs = bits_per_byte(by_pairs, log_pairs, texts, tmp_path / "b")
    assert letters > 1.8 * pairs
    np.testing.assert_allclose([one, two], by_hand / np.log(2) / sizes.sum(), rtol=1e-6)
