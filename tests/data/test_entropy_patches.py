"""Patches by entropy: the table of entropies, where texts are cut, and the file."""

import base64
import json
import math
import pickle
import re
import shutil
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.vocabularies import entropy

LONGEST = 6
BYTES = st.one_of(
    st.binary(max_size=80),
    st.text("the arx_ \n=", max_size=80).map(str.encode),
    st.tuples(st.binary(min_size=1, max_size=2), st.integers(1, 1500)).map(lambda r: r[0] * r[1]),
)


@pytest.fixture(scope="module")
def kind(real_documents, tmp_path_factory):
    return vocabularies.train(
        real_documents[::4], tmp_path_factory.mktemp("entropy"), 600, "entropy", LONGEST
    )


def test_entropies_by_hand():
    """After "ab" come c, c and d; "xb" was not seen; b is followed by c, c and d alone."""
    found = entropy.entropies(entropy.follower_counts([b"abc", b"abcabd", b"", b"a", b"ab"]))
    # The last byte of triples: c, c, a, b, d.
    alone = dict(zip(b"abcd", (2 / 261, 2 / 261, 3 / 261, 2 / 261), strict=True))
    after_b = [
        ({99: 2, 100: 1}.get(byte, 0) + 4 * alone.get(byte, 1 / 261)) / 7 for byte in range(256)
    ]
    after_ab = [
        ({99: 2, 100: 1}.get(byte, 0) + 4 * share) / 7 for byte, share in enumerate(after_b)
    ]
    for pair, shares in ((b"xb", after_b), (b"ab", after_ab)):
        assert math.fsum(shares) == pytest.approx(1)
        bits = -math.fsum(share * math.log2(share) for share in shares)
        assert found[pair[0], pair[1]] == pytest.approx(bits, rel=1e-12)
    levels = entropy.quantize(found)
    assert levels[ord("a"), ord("b")] == round(4 * found[ord("a"), ord("b")])
    assert levels.dtype == np.uint8 and levels.max() <= 32


def test_texts_are_cut_where_the_entropy_rises():
    """A table by hand: 20 after "e ", 3 after " t", 5 after "th", 4 elsewhere."""
    table = np.full((256, 256), 4, np.uint8)
    for pair, level in ((b"e ", 20), (b" t", 3), (b"th", 5)):
        table[pair[0], pair[1]] = level
    assert entropy.cut(b"the the e", table, 0, 9) == [b"th", b"e ", b"th", b"e ", b"e"]
    assert entropy.cut(b"the the", table, 1, 9) == [b"the ", b"th", b"e"]
    assert entropy.cut(b"the the", table, 2, 9) == [b"the ", b"the"]
    assert entropy.cut(b"the the", table, 2, 3) == [b"the", b" ", b"the"]
    assert entropy.cut(b"the the", table, 16, 9) == [b"the the"]
    assert entropy.cut(b"", table, 1, 9) == []


def naive(content: bytes, kind: entropy.EntropyPatches) -> list[bytes]:
    """Byte by byte, as the docstring says it."""
    levels, patches, boundary = kind.entropies_256x256.tolist(), [], 0
    padded = bytes(3) + content
    for at in range(len(content)):
        before, two, one = padded[at : at + 3]
        rises = at > 0 and levels[two][one] - levels[before][two] > kind.rise
        boundary = at if rises else boundary
        if (at - boundary) % kind.longest == 0 or at - boundary >= 1024:
            patches.append(b"")
        patches[-1] += content[at : at + 1]
    return patches


@given(BYTES)
@settings(max_examples=40)
def test_cuts_and_tokens_against_loops(kind, content):
    patches = kind._cut(content)
    assert patches == naive(content, kind)
    assert max(map(len, patches), default=0) <= LONGEST
    tokens, known = [], {piece: i for i, piece in enumerate(kind.token_bytes) if piece}
    for patch in patches:
        while patch:
            piece = next(patch[:end] for end in range(len(patch), 0, -1) if patch[:end] in known)
            tokens.append(known[piece])
            patch = patch[len(piece) :]
    assert kind.encode_bytes(content) == tokens
    for some in {0, len(tokens) // 3, len(tokens) // 2, len(tokens)}:
        assert content.startswith(kind.decode_bytes(tokens[:some]))
        kind.decode(tokens[:some]).encode()


@given(BYTES, BYTES, BYTES)
@settings(max_examples=40)
def test_cuts_depend_on_a_bounded_number_of_bytes_before(kind, one, other, content):
    """Whatever stands before a text, its cuts are the same from FAR + 2 bytes on."""
    far = entropy.FAR + 2
    shared = (b"x=" * far)[: far + 2 - len(content)] + content

    def starts(content: bytes) -> np.ndarray:
        return entropy.boundaries(content, kind.entropies_256x256, kind.rise, LONGEST)

    tails = [starts(before + shared)[len(before) + far :] for before in (one, other)]
    np.testing.assert_array_equal(*tails)


def test_patches_are_the_most_frequent_of_the_best_threshold(kind, real_documents, tmp_path):
    contents = [text.encode() for text in real_documents[::4]]
    table = entropy.quantize(entropy.entropies(entropy.follower_counts(contents)))
    np.testing.assert_array_equal(kind.entropies_256x256, table)
    counts: dict[bytes, int] = {}
    for patch in (p for c in contents for p in entropy.cut(c, table, kind.rise, LONGEST)):
        counts[patch] = counts.get(patch, 0) + 1
    known = kind.token_bytes[259:]
    assert len(set(known)) == len(known) == 600 - 259 and kind.size == 600
    assert all(len(one) <= len(other) for one, other in pairwise(known))
    least = min(counts[patch] for patch in known)
    others = [n for patch, n in counts.items() if len(patch) > 1 and patch not in set(known)]
    assert max(others) <= least
    assert 1 <= kind.rise <= 5
    # Fewer tokens than patches of any fixed stride, with a size as large.
    tokens = sum(map(len, kind.encode(real_documents[::4])))
    for stride in (3, 6):
        fixed = vocabularies.train(real_documents[::4], tmp_path, 600, "patches", stride)
        assert tokens < sum(map(len, fixed.encode(real_documents[::4])))


def test_the_same_again_and_from_a_run_folder(kind, real_documents, tmp_path):
    again = vocabularies.train(real_documents[::4], tmp_path / "a", 600, "entropy", LONGEST)
    assert again.path.read_bytes() == kind.path.read_bytes()
    for name, file in kind.files.items():
        shutil.copyfile(file, tmp_path / name)
    again = vocabularies.of_run(tmp_path)
    assert again.sha256 == kind.sha256 == pickle.loads(pickle.dumps(again)).sha256
    assert again.token_bytes == kind.token_bytes and again.rise == kind.rise
    text = "The array é\x00\U0001f600 of the matrix"
    (tokens,) = again.encode([text])
    assert kind.encode([text]) == [tokens] and len(tokens) < len(text)
    assert kind._offsets(text, len(tokens)).tolist()[-1] == len(text.encode())
    assert kind.window_bytes(text, tokens, np.array([2, 99])).sum() == len(text.encode())


def test_the_digest_is_of_the_entropies_not_of_their_compression(kind, tmp_path):
    layout = json.loads(kind.path.read_text())
    table = zlib.decompress(base64.b85decode(layout["entropies"]))
    layout["entropies"] = base64.b85encode(zlib.compress(table, 1)).decode()
    (tmp_path / entropy.FILE).write_text(json.dumps(layout))
    assert vocabularies.read(tmp_path / entropy.FILE).sha256 == kind.sha256


@pytest.mark.parametrize(
    "size,longest,words",
    [
        (700, 1, r"data\.longest_piece=1: .*'entropy' it is the most bytes of a patch; set it"),
        (259, 4, r"data\.vocabulary_size=259: at least 260 for patches"),
        (300, 4, r"data\.vocabulary_size=300: at most 26\d for this text"),
    ],
)
def test_what_cannot_be_trained_is_refused(size, longest, words, tmp_path):
    with pytest.raises(UserError, match=words):
        vocabularies.train(["abcdefgh", "ab"], tmp_path, size, "entropy", longest)


def test_damage_is_told_and_patches_cannot_be_made_shorter(kind, tmp_path):
    with pytest.raises(UserError, match=r"data\.longest_piece=2: the patches of .* have 6 bytes"):
        vocabularies.limit(kind, tmp_path, 2)
    assert vocabularies.limit(kind, tmp_path, LONGEST) is kind
    layout = json.loads(kind.path.read_text())
    wrong = [
        {"kind": "patches"},
        {"longest": 1},
        {"longest": 3},
        {"rise": None},
        {"entropies": layout["entropies"][:-10]},
        {"entropies": "\u00e9"},
        {"entropies": "00000"},
        {"entropies": 5},
        {"patches": {"2": "abc"}},
        {"patches": {"1": "abc"}},
        {"patches": {"two": "ab"}},
        {"patches": {"2": "\u6f22ab"}},
        {"patches": "abab"},
    ]
    contents = [json.dumps(layout | each) for each in wrong]
    for content in (*contents, "{}", "[]", "no JSON", json.dumps(layout)[:-100]):
        (tmp_path / entropy.FILE).write_text(content)
        with pytest.raises(UserError, match=re.escape(entropy.FILE) + ": .*restore the file"):
            vocabularies.read(tmp_path / entropy.FILE)
