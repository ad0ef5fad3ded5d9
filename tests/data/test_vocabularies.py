import io

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.vocabularies import EOS, PAD, UNK, Vocabulary


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
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(real_documents).split("\n")),
        model_writer=model,
        vocab_size=400,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (tmp_path / "t5.model").write_bytes(model.getvalue())
    given_model = Vocabulary(tmp_path / "t5.model")
    text = "  Two   spaces\n\nand ﬁgures: naïve …  "
    tokens = given_model.encode([text])[0]
    ends = np.array([5, 10, len(tokens) + 1])
    sizes = given_model.window_bytes(text, tokens, ends)
    assert sizes.sum() == len(text.encode())
    # The first window's bytes, from SentencePiece's own character offsets.
    model = sentencepiece.SentencePieceProcessor(model_file=str(given_model.path))
    pieces = model.encode(text, return_type="proto").pieces
    assert all(text.encode()[p.begin : p.end].decode() == p.surface for p in pieces)
    assert sizes[0] == pieces[4].end


def test_training_is_deterministic(vocabulary, real_documents, tmp_path):
    again = vocabularies.train(real_documents, tmp_path / "again.model", 512)
    assert again.sha256 == vocabulary.sha256


def test_errors_name_the_setting(tmp_path):
    with pytest.raises(UserError, match="data.vocabulary_size=9000: at most"):
        vocabularies.train(["too little text"], tmp_path / "v.model", 9000)
    with pytest.raises(UserError, match="data.vocabulary_size=10: at least"):
        vocabularies.train(["too little text"], tmp_path / "v.model", 10)
    with pytest.raises(UserError, match="no such SentencePiece model"):
        Vocabulary(tmp_path / "missing.model")
    (tmp_path / "text.model").write_text("not a model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        Vocabulary(tmp_path / "text.model")


def test_rows_are_decoded_like_one_by_one(vocabulary, store):
    rows = np.vstack([store.read(np.arange(40)), np.zeros((1, store.context), np.int32)])
    assert vocabulary.decode_all(rows) == [vocabulary.decode(row) for row in rows]
    assert vocabulary.decode_all(rows)[-1] == ""
