"""Values that a small mistake in the data would change: budgets, fingerprints, units, counts."""

import collections
import hashlib

import numpy as np
import pytest

from specialm.data import mixed, sampler, vocabularies, windows
from specialm.data.documents import Document, Source, stable_hash
from specialm.data.groups import HistogramSampler
from specialm.data.sources import open_source
from specialm.data.store import StoreWriter, WindowStore
from specialm.data.transforms import cut_long_documents, subsample
from specialm.data.windows import DocumentWindows, Split

SETTINGS = {"context": 4, "vocabulary_sha256": "v"}


def document(name, tokens, key):
    """Windows of up to 4 tokens, of 2 bytes a token."""
    ends_N = np.minimum(np.arange(4, tokens + 4, 4), tokens)
    sizes_N = np.diff(ends_N, prepend=0)
    return DocumentWindows(name, key, np.arange(2, tokens + 2), ends_N, 2 * sizes_N)


def store_of(path, documents, shard_tokens=1000, counts=(), **settings):
    StoreWriter(path, SETTINGS | settings, shard_tokens).write(
        documents, collections.Counter(dict(counts))
    )
    return WindowStore(path)


THREE = [document("a", 9, 30), document("b", 5, 10), document("c", 6, 20)]


@pytest.mark.parametrize(
    ("tokens", "names"),
    [(1, "b"), (4, "b"), (5, "b"), (6, "bc"), (11, "bc"), (12, "bca"), (20, "bca"), (0, "bca")],
)
def test_a_subset_ends_with_the_document_that_meets_the_budget(tmp_path, tokens, names):
    """In the order of the hashes of their text: b has 5 tokens, c 6, a 9."""
    store = store_of(tmp_path / "s", THREE)
    used = store.subset(tokens)
    assert "".join(dict.fromkeys(store.documents[n][0] for n in store.document_N[used])) == names
    assert len(used) == {"b": 2, "bc": 4, "bca": 7}[names]


def test_a_fingerprint_is_of_settings_and_content_not_of_counts(tmp_path):
    same = store_of(tmp_path / "a", THREE).fingerprint
    assert store_of(tmp_path / "b", THREE, counts={"documents": 3}).fingerprint == same
    others = {
        store_of(tmp_path / "c", THREE, vocabulary_sha256="w").fingerprint,
        store_of(tmp_path / "d", THREE, context=5).fingerprint,
        store_of(tmp_path / "e", THREE, split="train").fingerprint,
        store_of(tmp_path / "f", THREE[::-1]).fingerprint,
        same,
    }
    assert len(others) == 5


def test_every_column_is_in_the_fingerprint(tmp_path):
    """Tokens, ends, bytes and documents of the same total."""
    base = document("a", 8, 1)
    changes = (
        {"tokens": base.tokens[::-1]},
        {"ends_N": np.array([3, 8])},
        {"bytes_N": base.bytes_N[::-1] + np.array([1, -1])},
    )
    made = [DocumentWindows(**{**vars(base), **change}) for change in ({}, *changes)]
    prints = [store_of(tmp_path / str(n), [d]).fingerprint for n, d in enumerate(made)]
    halves = [
        DocumentWindows("a", 1, base.tokens[:4], base.ends_N[:1], base.bytes_N[:1]),
        DocumentWindows("b", 2, base.tokens[4:], base.ends_N[:1], base.bytes_N[:1]),
    ]
    prints.append(store_of(tmp_path / "halves", halves).fingerprint)
    assert len(set(prints)) == len(prints)


def test_the_size_of_shards_changes_no_window(tmp_path):
    one, many = store_of(tmp_path / "one", THREE), store_of(tmp_path / "many", THREE, 5)
    assert (len(one.index["shards"]), len(many.index["shards"])) == (1, 3)
    every = np.arange(len(one))
    np.testing.assert_array_equal(one.read(every), many.read(every))
    np.testing.assert_array_equal(one.subset(11), many.subset(11))
    for name in ("sizes_N", "bytes_N", "document_N"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
    assert one.documents == many.documents
    cut = [(d.id, d.tokens.tolist(), d.ends_N.tolist()) for d in many.cut(1, 3)]
    assert cut == [(d.id, d.tokens.tolist(), d.ends_N.tolist()) for d in THREE[1:]]


def test_bytes_of_a_piece_are_bytes_not_characters(vocabulary):
    """Pieces of the model as SentencePiece itself spells them."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary.path))
    spelt = [model.id_to_piece(i) for i in range(model.vocab_size())]
    for number, piece in enumerate(spelt):
        if model.is_byte(number):
            assert vocabulary.piece_bytes[number] == 1
        elif model.is_control(number) or model.is_unknown(number):
            assert vocabulary.piece_bytes[number] == 0
        else:
            text = piece.replace("\u2581", " ")
            assert vocabulary.piece_bytes[number] == len(text.encode("utf-8"))


def test_a_window_has_the_bytes_of_its_accents(tmp_path):
    """Without the offsets' fallback: every piece is a letter of two bytes."""
    text = "éàüöñçè" * 40
    lines = [f"{a}{b}\n{text}" for a in text for b in "éàü"]
    trained = vocabularies.train(lines, tmp_path / "v", 270)
    tokens = trained.encode([text])[0]
    assert trained.piece_bytes[tokens].sum() == len(text.encode()) == 2 * len(text)
    ends = np.array([3, len(tokens) + 1])
    first = trained.decode(tokens[:3])
    assert trained.window_bytes(text, tokens, ends).tolist() == [
        len(first.encode()),
        len(text.encode()) - len(first.encode()),
    ]


def documents(count=60):
    return [Document(f"id{i}", f"text {i} " * 3, f"group {i // 2}") for i in range(count)]


def test_counts_after_a_restart_are_those_without(vocabulary):
    source, split = Source("s", read_all), Split(0.3, 0.3)
    for name in ("train", "valid", "heldout"):
        whole = collections.Counter()
        every = list(windows.windows(source, vocabulary, 8, split, name, whole))
        again = collections.Counter()
        rest = list(windows.windows(source, vocabulary, 8, split, name, again, skip=4))
        assert again == whole and [d.id for d in rest] == [d.id for d in every[4:]]
        assert whole["documents"] == 60 and whole[f"split: {name}"] == len(every)


def read_all(counts):
    for each in documents():
        counts["documents"] += 1
        yield each


def share_of(text):
    """The 64 bits that decide, as a share: BLAKE2b of the text, little end first."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") / 2**64


def test_the_split_is_by_hash_of_group_then_of_text():
    """Against the rule itself; held out by group alone, validation by text alone."""
    split = Split(0.3, 0.4)
    sides = collections.Counter()
    for each in documents(200):
        want = "valid" if share_of("valid" + each.text) < 0.4 else "train"
        want = "heldout" if share_of(each.group) < 0.3 else want
        assert split.assign(each) == want
        sides[want] += 1
    assert min(sides.values()) > 20
    assert stable_hash("abc") / 2**64 == share_of("abc")


def test_what_begins_with_a_dot_is_no_text(tmp_path):
    for name in ("a.txt", ".hidden.txt", ".git/config.txt", "sub/b.txt", "sub/.c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    files = open_source(f"folder:{tmp_path}").files
    assert [str(path.relative_to(tmp_path)) for path in files] == ["a.txt", "sub/b.txt"]


def test_a_fraction_of_documents_is_by_their_group():
    source = subsample(Source("s", lambda counts: iter(documents(400))), 0.25)
    counts = collections.Counter()
    kept = [each.id for each in source.documents(counts)]
    want = [each.id for each in documents(400) if share_of("part" + each.group) < 0.25]
    assert kept == want and 50 < len(want) < 150


def test_parts_of_a_document_are_held_out_by_themselves():
    text = "\n\n".join(f"paragraph {i} of a long text" for i in range(40))
    source = Source("s", lambda counts: iter([Document("d", text, "d")]))
    parts = list(cut_long_documents(source, 200).documents(collections.Counter()))
    assert "\n\n".join(part.text for part in parts) == text
    assert len({part.group for part in parts}) == len({part.id for part in parts}) == len(parts) > 4


def test_mixing_begins_at_its_step_and_keeps_the_seed():
    generic = sampler.Sampler(50, 8, 7)
    late = mixed.sampler(generic, 10, 0.5)
    assert (late.windows, late.batch_size, late.seed) == (60, 8, 7)
    np.testing.assert_allclose(late.probability_K, [0.5, 0.5])
    both = mixed.Late(generic, late, 3)
    for number in range(6):
        want = late if number >= 3 else generic
        np.testing.assert_array_equal(both.indices(number), want.indices(number))


def test_histograms_are_of_the_seed():
    cluster_N = np.arange(60) % 6
    one, other = (HistogramSampler(8, seed, cluster_N, np.full(6, 1 / 6), 2, 2) for seed in (0, 1))
    assert (one.features(0) != other.features(0)).any()
    assert (one.features(0) != one.features(1)).any()


def test_epochs_follow_one_another_without_gap():
    """Every window once in each epoch, in another order, whatever the batch."""
    drawn = sampler.Sampler(10, 4, 3)
    stream = np.concatenate([drawn.indices(step) for step in range(5)])
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10].tolist() != stream[10:].tolist()
