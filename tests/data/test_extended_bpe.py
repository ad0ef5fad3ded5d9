"""An old BPE vocabulary fitted to another text."""

import collections

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.vocabularies.extending import continued_merges, unused_leaves

TEXTS = [
    "Die Funktion gibt die Eigenwerte der Matrix zurück, und zwar der Größe nach.",
    "Die Matrix muß quadratisch sein; die Eigenwerte sind im Allgemeinen komplex.",
    "Für symmetrische Matrizen sind die Eigenwerte reell und die Vektoren orthogonal.",
] * 3


@pytest.fixture(scope="module")
def extended(bpe_vocabulary, tmp_path_factory):
    return vocabularies.extend(bpe_vocabulary, TEXTS, tmp_path_factory.mktemp("extended"), 512)


def test_it_takes_fewer_tokens_and_loses_nothing(bpe_vocabulary, extended):
    before, after = (sum(map(len, v.encode(TEXTS))) for v in (bpe_vocabulary, extended))
    assert after < 0.7 * before and extended.size == bpe_vocabulary.size == 512
    assert extended.is_lossless and extended.eos == bpe_vocabulary.eos
    for text in (*TEXTS, "und 中文, Grüße 🎉\n\t x"):
        assert extended.decode(extended.encode([text])[0]) == text
    assert vocabularies.of_run(extended.path.parent).sha256 == extended.sha256


def test_tokens_that_stay_keep_their_ids(bpe_vocabulary, extended):
    old, new = bpe_vocabulary.token_bytes, extended.token_bytes
    stay = [i for i in range(512) if old[i] == new[i]]
    assert 257 <= len(stay) < 512
    assert not {new[i] for i in range(512) if i not in stay} & set(old)
    used = {token for ids in bpe_vocabulary.encode(TEXTS) for token in ids}
    assert used <= set(stay)


def test_new_merges_come_after_the_old_ones(bpe_vocabulary, extended):
    """So that a text is cut as before, and then further."""
    old, new = (v.layout["model"]["merges"] for v in (bpe_vocabulary, extended))
    kept = [merge for merge in old if merge in new]
    assert new[: len(kept)] == kept and len(new) > len(kept)


def slow_merges(words, count, known):
    """BPE by its definition: all pairs are counted anew for every merge."""
    words = [(list(tokens), times) for tokens, times in words]
    merges, fresh = [], set()
    while len(fresh) < count:
        pairs = collections.Counter()
        for tokens, times in words:
            for pair in zip(tokens, tokens[1:], strict=False):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges.append(best)
        fresh |= {"".join(best)} - known
        for number, (tokens, times) in enumerate(words):
            found, i = [], 0
            while i < len(tokens):
                two = tuple(tokens[i : i + 2]) == best
                found.append("".join(best) if two else tokens[i])
                i += 1 + two
            words[number] = (found, times)
    return merges


@hypothesis.given(
    st.lists(st.tuples(st.text("abc", min_size=1, max_size=9), st.integers(1, 4)), max_size=8),
    st.integers(0, 12),
)
def test_merges_are_those_of_counting_anew(words, count):
    words = [(list(text), times) for text, times in words]
    known = {"a", "b", "c", "ab"}
    assert continued_merges(words, count, known) == slow_merges(words, count, known)


def test_a_token_goes_only_if_nothing_is_made_of_it():
    merges = [("a", "b"), ("ab", "c"), ("b", "c"), ("ab", "ab"), ("abc", "d")]
    names = ["a", "b", "c", "d", "ab", "abc", "bc", "abab", "abcd"]
    vocab = {name: i for i, name in enumerate(names)}
    letters = set("abcd")
    assert unused_leaves(vocab, merges, letters) == ["abcd", "abab", "bc", "abc", "ab"]
    assert unused_leaves(vocab, merges, letters | {"abc"}) == ["abcd", "abab", "bc"]
    assert unused_leaves(vocab, merges, letters | {"abcd"}) == ["abab", "bc"]


def test_what_cannot_be_extended_is_named(bpe_vocabulary, vocabulary, tmp_path):
    with pytest.raises(UserError, match="is no byte-level BPE.*use --vocabulary=new"):
        vocabularies.extend(vocabulary, TEXTS, tmp_path, 512)
    with pytest.raises(UserError, match="data.vocabulary_size=400: --vocabulary=extend keeps"):
        vocabularies.extend(bpe_vocabulary, TEXTS, tmp_path, 400)
    with pytest.raises(UserError, match=r"data.vocabulary_size=9000: at most \d+ for this text"):
        vocabularies.extend(bpe_vocabulary, TEXTS, tmp_path, 9000)
    assert not list(tmp_path.iterdir())
    assert np.all(np.array(bpe_vocabulary.piece_bytes)[1:] > 0)
