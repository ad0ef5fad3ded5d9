"""Any bytes through every kind of vocabulary, plain bytes, and vocabularies with short pieces."""

import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.vocabularies import patches, plain_bytes
from specialm.data.vocabularies.tokenizer_json import TokenizerJson

SLOTS = 12
PLANES = [chr(plane * 0x10000 + low) for plane in range(17) for low in (0x41, 0x2581, 0xFFFD)]
CONTENT = st.one_of(
    st.binary(max_size=200),
    st.text(st.characters(codec="utf-8"), max_size=60).map(str.encode),
    st.lists(st.sampled_from(PLANES), max_size=30).map(lambda chars: "".join(chars).encode()),
    # Long pieces: a run without a place to cut, of 1 to 10,000 bytes.
    st.tuples(st.sampled_from(["a", "=", "\n", "漢", "\u2581"]), st.integers(1, 3000)).map(
        lambda run: (run[0] * run[1]).encode()[:10_000]
    ),
)


@pytest.fixture(scope="module")
def kinds(real_documents, vocabulary, bpe_vocabulary, tmp_path_factory):
    """Every kind; those with the suffix 12 have no piece of more bytes."""
    root = tmp_path_factory.mktemp("kinds")
    return {
        "unigram": vocabulary,
        "bpe": bpe_vocabulary,
        "bytes": vocabularies.train([], root / "bytes", plain_bytes.SIZE, "bytes"),
        "patches 4": vocabularies.train(real_documents, root / "p", 700, "patches", 4),
        "entropy 8": vocabularies.train(real_documents, root / "e", 700, "entropy", 8),
        "unigram 12": vocabularies.train(real_documents, root / "u", 700, "unigram", SLOTS),
        "bpe 12": vocabularies.train(real_documents, root / "b", 700, "bpe", SLOTS),
        "given unigram 4": vocabularies.limit(vocabulary, root / "gu", 4),
        "given bpe 4": vocabularies.limit(bpe_vocabulary, root / "gb", 4),
    }


@given(CONTENT)
@example("".join(PLANES).encode())
@example(bytes(range(256)) * 40)
@example(b"\xed\xa0\x80 a surrogate, \xc0\x80 overlong, \xf4\x90\x80\x80 beyond the last plane")
@settings(max_examples=25)
def test_any_bytes_come_back_exactly(kinds, content):
    for name, kind in kinds.items():
        tokens = kind.encode_bytes(content)
        assert kind.decode_bytes(tokens) == content, name
        assert kind.piece_bytes[tokens].sum() == len(content)
        limit = int(name.split()[-1]) if name[-1].isdigit() else 10_000
        assert max((len(kind.token_bytes[i]) for i in tokens), default=0) <= limit, name


@given(st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=25)
def test_texts_come_back_and_their_tokens_are_those_of_their_bytes(kinds, text):
    for name, kind in kinds.items():
        (tokens,) = kind.encode([text])
        if kind.changes(text, tokens):
            assert "\u2581" in text and name.startswith(("unigram", "given unigram"))
            continue
        assert kind.decode(tokens) == text
        assert kind.encode_bytes(text.encode()) == tokens, name


def test_what_is_no_utf8_is_marked(kinds):
    for name, kind in kinds.items():
        text = kind.decode(kind.encode_bytes(b"a\xff\xe6\xbcz"))
        assert text.startswith("a") and text.endswith("z") and "\ufffd" in text, name
        text.encode()


def test_short_pieces_leave_ids_and_sizes(kinds, vocabulary, bpe_vocabulary):
    for name, given_one in (("given unigram 4", vocabulary), ("given bpe 4", bpe_vocabulary)):
        kind = kinds[name]
        assert kind.size == given_one.size and kind.eos == given_one.eos
        assert max(map(len, given_one.token_bytes)) > 4
        for i, (ours, theirs) in enumerate(zip(kind.pieces, given_one.token_bytes, strict=True)):
            assert ours == (theirs if len(theirs) <= 4 else None), i
        assert kind.sha256 != given_one.sha256
        # Long pieces are cut into known ones, not into bytes.
        tokens = kind.encode(["the return of the array"])[0]
        assert len(given_one.encode(["the return of the array"])[0]) < len(tokens) < 23
    assert max(map(len, kinds["bpe 12"].token_bytes)) > 6


def test_plain_bytes_in_a_run_folder(kinds, tmp_path):
    kind = kinds["bytes"]
    assert (kind.size, kind.start, kind.eos, kind.special) == (259, 0, 1, plain_bytes.SPECIAL)
    assert kind.encode(["aé"]) == [[3 + 97, 3 + 195, 3 + 169]]
    assert kind.decode_all(np.array([[100, 1, 0]])) == ["a"]
    assert kind.window_bytes("aé", [100, 198, 172], np.array([2, 4])).tolist() == [2, 1]
    for name, file in kind.files.items():
        shutil.copyfile(file, tmp_path / name)
    again = vocabularies.of_run(tmp_path)
    assert again.sha256 == kind.sha256 == pickle.loads(pickle.dumps(again)).sha256
    (tmp_path / plain_bytes.FILE).write_text("{}")
    with pytest.raises(UserError, match=r"bytes\.json: is not"):
        vocabularies.of_run(tmp_path)
    with pytest.raises(UserError, match=r"data\.vocabulary_size=2048: .* has 259 tokens"):
        vocabularies.train([], tmp_path, 2048, "bytes")


def test_vocabularies_that_cannot_are_named(bpe_vocabulary, tmp_path):
    layout = json.loads(json.dumps(bpe_vocabulary.layout))
    names = [c for c in layout["model"]["vocab"] if len(c) == 1 and ord(c) > 255]
    layout["model"]["vocab"] = {n: i for n, i in layout["model"]["vocab"].items() if n != names[-1]}
    layout["model"]["merges"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(layout))
    lacking = TokenizerJson(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match="has no token for the byte 0x"):
        lacking.encode_bytes(bytes(range(256)))
    words = {"type": "WordLevel", "vocab": {"<|endoftext|>": 0, "longword": 1}, "unk_token": ""}
    layout["model"], layout["pre_tokenizer"], layout["decoder"] = words, None, None
    (tmp_path / "tokenizer.json").write_text(json.dumps(layout))
    with pytest.raises(UserError, match=r"data\.longest_piece=4: it is no BPE vocabulary"):
        vocabularies.limit(TokenizerJson(tmp_path / "tokenizer.json"), tmp_path / "x", 4)


def test_patches_are_the_most_frequent_cuts_of_the_text(tmp_path):
    texts = ["abcdabcdabcd", "wxyzabcdWXYZab", "wxyzé"]
    kind = vocabularies.train(texts, tmp_path, 259 + 2, "patches", 4)
    assert kind.token_bytes[259:] == [b"abcd", b"wxyz"] and kind.size == 261
    # At every fourth byte, known or not; what is not known and the end byte by byte.
    assert kind.encode(["abcdwxyzxabc"]) == [[259, 260, *(3 + byte for byte in b"xabc")]]
    assert kind.encode(["xabcdwxyz"]) == [[3 + byte for byte in b"xabcdwxyz"]]
    assert kind.encode(["abcdwx"]) == [[259, 3 + ord("w"), 3 + ord("x")]]
    assert kind.decode([259, 3 + 0xC3, 1]) == "abcd\ufffd"
    assert kind.window_bytes(
        "abcdwxé", [259, 122, 123, 198, 172], np.array([1, 3, 6])
    ).tolist() == [4, 2, 2]
    assert kind._offsets("abcdwxyz!", 3).tolist() == [0, 4, 8, 9]
    again = vocabularies.of_run(tmp_path)
    assert again.sha256 == kind.sha256 == pickle.loads(pickle.dumps(again)).sha256
    assert again.stride == 4 and again.encode(["wxyz"]) == [[260]]


@pytest.mark.parametrize(
    "size,longest,words",
    [
        (700, 0, r"data\.longest_piece=0: .*set it to at least 2"),
        (259, 4, r"data\.vocabulary_size=259: at least 260 for patches"),
        (300, 4, r"data\.vocabulary_size=300: at most 261 for this text"),
    ],
)
def test_patches_that_cannot_be_trained_are_refused(size, longest, words, tmp_path):
    with pytest.raises(UserError, match=words):
        vocabularies.train(["abcdefgh", "ab"], tmp_path, size, "patches", longest)


def test_patches_cannot_be_made_shorter_and_damage_is_told(kinds, tmp_path):
    with pytest.raises(UserError, match=r"data\.longest_piece=3: the patches of .* have 4 bytes"):
        vocabularies.limit(kinds["patches 4"], tmp_path, 3)
    assert vocabularies.limit(kinds["patches 4"], tmp_path, 4) is kinds["patches 4"]
    for content in ("{}", '{"kind": "patches", "stride": 4, "patches": "abc"}', "no JSON"):
        (tmp_path / patches.FILE).write_text(content)
        with pytest.raises(UserError, match=r"patches\.json: .*restore the file"):
            vocabularies.read(tmp_path / patches.FILE)
