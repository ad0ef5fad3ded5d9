import collections

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from specialm.data.sources import Document, Source
from specialm.data.windows import CHANGED, Split, changed_share, cut, windows

TEXT = st.characters(codec="utf-8", exclude_characters="\u2581")  # see test_vocabularies.py


@given(st.text(TEXT, min_size=1, max_size=200), st.integers(1, 20))
def test_windows_hold_every_token_once(vocabulary, text, context):
    tokens = vocabulary.encode([text])[0]
    made = cut(Document("d", text, "d"), tokens, vocabulary, context)
    starts = np.concatenate([[0], made.ends_N[:-1]])
    sizes = made.ends_N - starts
    assert made.tokens.tolist() == [*tokens, vocabulary.eos]
    assert sizes.sum() == len(tokens) + 1
    assert (sizes[:-1] == context).all() and 1 <= sizes[-1] <= context
    assert made.bytes_N.sum() == len(text.encode())
    # Each window's bytes are those of its own pieces.
    for start, end, size in zip(starts, made.ends_N, made.bytes_N, strict=True):
        inside = tokens[start : min(end, len(tokens))]
        assert size == vocabulary.piece_bytes[inside].sum()


@given(st.integers(0, 2**32), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_split_shares_and_stability(seed, heldout, valid):
    split = Split(heldout, valid)
    documents = [Document(f"{seed}-{i}", f"text {seed} {i}", f"{seed}-{i}") for i in range(2000)]
    sides = collections.Counter(split.assign(d) for d in documents)
    assert abs(sides["heldout"] / 2000 - heldout) < 0.06
    assert abs(sides["valid"] / 2000 - (1 - heldout) * valid) < 0.06
    # A larger share holds out the same documents and more, none is let go.
    larger = Split(heldout + 0.1, valid)
    held = {d.id for d in documents if split.assign(d) == "heldout"}
    assert held < {d.id for d in documents if larger.assign(d) == "heldout"}


def test_a_group_is_held_out_whole_and_equal_texts_stay_together():
    split = Split(0.3, 0.3)
    for book in range(50):
        chapters = [Document(f"{book}/{i}", f"{book} {i}", f"book {book}") for i in range(10)]
        heldout = {split.assign(d) == "heldout" for d in chapters}
        assert len(heldout) == 1
    same = {split.assign(Document(f"id{i}", "the same text", "g")) for i in range(20)}
    assert len(same) == 1


def test_splits_partition_the_documents(vocabulary):
    documents = [Document(str(i), f"document number {i}", str(i)) for i in range(300)]

    def read(counts):
        counts["documents"] += len(documents)
        return iter(documents)

    source, split, ids = Source("s", read), Split(0.2, 0.2), []
    for name in ("train", "valid", "heldout"):
        counts = collections.Counter()
        made = list(windows(source, vocabulary, 8, split, name, counts))
        assert counts[f"split: {name}"] == len(made) > 20
        ids += [m.id for m in made]
        later = list(windows(source, vocabulary, 8, split, name, collections.Counter(), skip=7))
        assert [m.id for m in later] == [m.id for m in made][7:]
    assert sorted(ids) == sorted(d.id for d in documents)


class Upper:
    """A vocabulary that does not give lower case back."""

    eos = 1

    def encode(self, texts):
        return [[2 + ord(c) for c in text.upper()] for text in texts]

    def changes(self, text, tokens=None):
        return text.upper() != text

    def window_bytes(self, text, tokens, ends):
        return np.diff(np.minimum(ends, len(tokens)), prepend=0)


def test_documents_that_the_vocabulary_changes_are_counted_also_after_a_restart():
    documents = [Document(str(i), f"TEXT {i}" + "x" * (i % 3 == 0), str(i)) for i in range(200)]
    source, split = Source("s", lambda counts: iter(documents)), Split(0.2, 0.2)
    for name in ("train", "valid", "heldout"):
        lossy = [d for d in documents if split.assign(d) == name and d.text.endswith("x")]
        for skip in (0, 1, 9):
            counts = collections.Counter()
            list(windows(source, Upper(), 8, split, name, counts, skip))
            assert counts[CHANGED] == len(lossy) > 3
            assert changed_share(counts, name) == len(lossy) / counts[f"split: {name}"]
