import io
from unittest import mock

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data.vocabularies import unigram
from specialm.data.vocabularies.unigram import EOS, PAD, UNK, Unigram


def test_control_ids_are_those_of_t5(vocabulary):
    model = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary.path))
    assert (model.pad_id(), model.eos_id(), model.unk_id()) == (PAD, EOS, UNK) == (0, 1, 2)
    assert vocabulary.size == model.vocab_size() == 512


# Without U+2581, SentencePiece's own mark of a space: see below.
@given(st.text(st.characters(codec="utf-8", exclude_characters="\u2581"), max_size=60))
def test_no_byte_is_lost(vocabulary, text):
    tokens = vocabulary.encode([text])[0]
    assert vocabulary.decode(tokens) == text
    assert vocabulary.piece_bytes[tokens].sum() == len(text.encode())
    assert UNK not in tokens


def test_the_mark_of_a_space_becomes_a_space_but_its_bytes_are_counted(vocabulary):
    text = "a\u2581b"
    tokens = vocabulary.encode([text])[0]
    assert vocabulary.decode(tokens) == "a b"
    assert vocabulary.window_bytes(text, tokens, np.array([len(tokens) + 1])).sum() == 5


def test_white_space_survives(vocabulary):
    text = "def f(x):\n    return  x\n\n\t# done \n"
    assert vocabulary.decode(vocabulary.encode([text])[0]) == text


def test_decode_leaves_out_pad_and_eos(vocabulary):
    tokens = vocabulary.encode(["array"])[0]
    assert vocabulary.decode([*tokens, EOS, PAD, PAD]) == "array"


def test_window_bytes_of_a_vocabulary_that_normalises(tmp_path, real_documents):
    """A given T5-like model folds white space; the bytes of the text are all counted even so."""
    t5 = given_model(tmp_path / "t5.model", real_documents)
    text = "  Two   spaces\n\nand ﬁgures: naïve …  "
    tokens = t5.encode([text])[0]
    ends = np.array([5, 10, len(tokens) + 1])
    sizes = t5.window_bytes(text, tokens, ends)
    assert sizes.sum() == len(text.encode())
    # The first window's bytes, from SentencePiece's own character offsets.
    model = sentencepiece.SentencePieceProcessor(model_file=str(t5.path))
    pieces = model.encode(text, return_type="proto").pieces
    assert all(text.encode()[p.begin : p.end].decode() == p.surface for p in pieces)
    assert sizes[0] == pieces[4].end


def given_model(path, texts, **settings):
    """A SentencePiece model as others train one."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(texts).split("\n")),
        model_writer=model,
        vocab_size=400,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        **settings,
    )
    path.write_bytes(model.getvalue())
    return Unigram(path)


LOSSLESS = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "byte_fallback": True,
}


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        ({"normalization_rule_name": "nmt_nfkc_cf"}, "Upper case of as many bytes"),
        ({"remove_extra_whitespaces": True}, "two  spaces"),
        ({"byte_fallback": False}, "a letter never seen: \U0001f600"),
        ({}, "the mark\u2581of a space"),
    ],
)
def test_a_text_that_does_not_come_back_is_noticed(tmp_path, real_documents, lost, text):
    model = given_model(tmp_path / "m.model", real_documents[:200], **(LOSSLESS | lost))
    assert model.changes(text)
    assert model.decode(model.encode([text])[0]) != text
    assert not model.changes("plain words")
    assert model.is_lossless == (not lost)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_changes_is_what_encoding_and_decoding_shows(vocabulary, text):
    assert vocabulary.is_lossless
    assert vocabulary.changes(text) == (vocabulary.decode(vocabulary.encode([text])[0]) != text)


def test_long_lines_are_trained_on(tmp_path):
    """Text without line ends, longer than SentencePiece takes a line to be, and its own mark."""
    draw = np.random.default_rng(0)
    syllables = ["".join(chr(0x4E00 + i) for i in draw.integers(0, 99, 3)) for _ in range(300)]
    line = "".join(syllables[i] for i in draw.integers(0, 300, 40_000))  # 360,000 bytes
    assert len(line.encode()) > 5 * unigram.LINE_BYTES
    for text in (line, f"\u2585{line}"):
        trained = unigram.train([text], tmp_path / "v.model", 600)
        tokens = trained.encode([line[:6000]])[0]
        assert len(tokens) < 6000 / 1.5  # most syllables of three are pieces
        assert trained.decode(tokens) == line[:6000]


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(4, 40))
def test_a_line_in_pieces_is_the_line(text, limit):
    with mock.patch.object(unigram, "LINE_BYTES", limit):
        parts = list(unigram._pieces_of_line(text))
    assert "".join(parts) == text
    assert all(len(part.encode()) <= limit for part in parts)
    assert all(len(part.encode()) > limit - 4 for part in parts[:-1])


def test_training_is_deterministic(vocabulary, real_documents, tmp_path):
    again = unigram.train(real_documents, tmp_path / "again.model", 512)
    assert again.sha256 == vocabulary.sha256


def test_errors_name_the_setting(tmp_path):
    with pytest.raises(UserError, match="data.vocabulary_size=9000: at most"):
        unigram.train(["too little text"], tmp_path / "v.model", 9000)
    with pytest.raises(UserError, match="data.vocabulary_size=10: at least"):
        unigram.train(["too little text"], tmp_path / "v.model", 10)
    with pytest.raises(UserError, match="no such SentencePiece model"):
        Unigram(tmp_path / "missing.model")
    (tmp_path / "text.model").write_text("not a model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        Unigram(tmp_path / "text.model")


def test_rows_are_decoded_like_one_by_one(vocabulary, store):
    rows = np.vstack([store.read(np.arange(40)), np.zeros((1, store.context), np.int32)])
    assert vocabulary.decode_all(rows) == [vocabulary.decode(row) for row in rows]
    assert vocabulary.decode_all(rows)[-1] == ""
