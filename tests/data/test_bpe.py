"""Byte-level BPE and other vocabularies in the layout of tokenizer.json."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.vocabularies import bpe
from specialm.data.vocabularies.tokenizer_json import BYTE_LETTERS, TokenizerJson
from specialm.serving.nasty import nasty_strings

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@given(TEXT)
def test_no_byte_is_lost(bpe_vocabulary, text):
    (tokens,) = bpe_vocabulary.encode([text])
    assert b"".join(bpe_vocabulary.token_bytes[i] for i in tokens) == text.encode()
    assert bpe_vocabulary.decode(tokens) == text
    assert bpe_vocabulary.is_lossless
    assert not bpe_vocabulary.changes(text)


def test_nasty_strings_come_back_and_special_names_are_text(bpe_vocabulary):
    texts = [*nasty_strings(2000, 1), bpe.END, f"a{bpe.END}b"]
    encoded = bpe_vocabulary.encode(texts)
    assert [bpe_vocabulary.decode(tokens) for tokens in encoded] == texts
    assert bpe_vocabulary.eos not in {i for tokens in encoded for i in tokens}


def test_bytes_of_a_part_of_a_character(bpe_vocabulary):
    (tokens,) = bpe_vocabulary.encode(["\U0001f9ff"])
    assert len(tokens) > 1
    assert [bpe_vocabulary.token_bytes[i] for i in tokens] != ["\U0001f9ff".encode()]
    ends = np.arange(1, len(tokens) + 2)
    sizes = bpe_vocabulary.window_bytes("\U0001f9ff", tokens, ends)
    assert sizes.sum() == 4
    assert sizes.tolist() == [len(bpe_vocabulary.token_bytes[i]) for i in tokens] + [0]


def test_the_letters_of_bytes_are_those_of_the_library():
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(ByteLevel.alphabet()) == set(BYTE_LETTERS)
    assert sorted(BYTE_LETTERS.values()) == list(range(256))


def test_roles(bpe_vocabulary):
    assert bpe_vocabulary.special == {bpe.END: 0}
    assert (bpe_vocabulary.eos, bpe_vocabulary.start, bpe_vocabulary.stops) == (0, 0, {0})
    assert bpe_vocabulary.size == 512
    rows = np.array([[*bpe_vocabulary.encode(["array"])[0], 0, 0, 0], [0] * 20][:1])
    assert bpe_vocabulary.decode_all(rows) == ["array"]


def test_training_is_deterministic(bpe_vocabulary, real_documents, tmp_path):
    again = vocabularies.train(real_documents, tmp_path, 512, "bpe")
    assert again.sha256 == bpe_vocabulary.sha256
    assert set(again.files) == {"tokenizer.json", "tokenizer_config.json"}
    assert pickle.loads(pickle.dumps(again)).sha256 == again.sha256
    assert vocabularies.read(tmp_path).sha256 == again.sha256


def changed(vocabulary, folder, config=None, **parts):
    """The vocabulary of a tokenizer.json with other parts."""
    layout = json.loads(vocabulary.path.read_text())
    (folder / "tokenizer.json").write_text(json.dumps(layout | parts))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return TokenizerJson(folder / "tokenizer.json")


def test_one_that_normalises_counts_all_bytes_and_says_so(bpe_vocabulary, tmp_path):
    given_one = changed(bpe_vocabulary, tmp_path, normalizer={"type": "NFC"})
    text = "naive\u0308 cafe\u0301 text"  # NFC makes them shorter
    (tokens,) = given_one.encode([text])
    assert given_one.changes(text)
    assert not given_one.changes("plain")
    sizes = given_one.window_bytes(text, tokens, np.array([2, len(tokens) + 1]))
    assert sizes.sum() == len(text.encode())


def test_truncation_and_padding_of_a_given_file_are_switched_off(bpe_vocabulary, tmp_path):
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    given_one = changed(bpe_vocabulary, tmp_path, truncation=truncation)
    text = "a text of more than four tokens, every one of which counts"
    assert given_one.decode(given_one.encode([text])[0]) == text


def test_start_and_end_of_a_document(bpe_vocabulary, tmp_path):
    """A chat model ends a turn with its eos; a document ends with <|endoftext|> even so."""
    added = [
        {"id": i, "content": name, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, name in ((0, bpe.END), (512, "<|im_start|>"), (513, "<|im_end|>"))
    ]
    config = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}}
    chat = changed(bpe_vocabulary, tmp_path, config, added_tokens=added, post_processor=None)
    assert (chat.size, chat.eos, chat.start, chat.stops) == (514, 0, 0, {0, 513})
    assert chat.sha256 != changed(bpe_vocabulary, tmp_path, {}, added_tokens=added).sha256


def test_errors_name_file_and_setting(bpe_vocabulary, tmp_path):
    with pytest.raises(UserError, match="data.vocabulary_size=256: at least 257"):
        vocabularies.train(["text"], tmp_path, 256, "bpe")
    with pytest.raises(UserError, match="data.vocabulary_size=9000: at most"):
        vocabularies.train(["too little text"], tmp_path, 9000, "bpe")
    names = ("vocabulary.model", "tokenizer.json", "bytes.json", "patches.json", "entropy.json")
    files = " or ".join(names)
    with pytest.raises(UserError, match=f"no {files} there"):
        vocabularies.read(tmp_path / "..")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken.json': not a tokenizer.json"):
        vocabularies.read(tmp_path / "broken.json")
    layout = json.loads(bpe_vocabulary.path.read_text()) | {"added_tokens": []}
    (tmp_path / "no_end.json").write_text(json.dumps(layout | {"post_processor": None}))
    with pytest.raises(UserError, match="no token ends a document"):
        vocabularies.read(tmp_path / "no_end.json")
