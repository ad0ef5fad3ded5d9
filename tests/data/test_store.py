import collections
import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data.sources import Document
from specialm.data.store import StoreWriter, WindowStore
from specialm.data.windows import cut

CONTEXT = 16


def settings(vocabulary):
    return {"context": CONTEXT, "vocabulary_sha256": vocabulary.sha256}


@pytest.fixture(scope="module")
def cuts(vocabulary, real_documents):
    encoded = vocabulary.encode(real_documents[:40])
    return [
        cut(Document(f"d{i}", text, f"d{i}"), tokens, vocabulary, CONTEXT)
        for i, (text, tokens) in enumerate(zip(real_documents[:40], encoded, strict=True))
    ]


@pytest.fixture(scope="module")
def store(vocabulary, cuts, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "s"
    StoreWriter(path, settings(vocabulary), 2000).write(cuts, collections.Counter(documents=40))
    return WindowStore(path, vocabulary.sha256)


def expected(cuts):
    """Every window as a list of tokens, from the cuts alone."""
    rows = []
    for document in cuts:
        starts = [0, *document.ends_N[:-1]]
        rows += [
            document.tokens[a:b].tolist() for a, b in zip(starts, document.ends_N, strict=True)
        ]
    return rows


def test_several_shards_and_counts(store, cuts):
    rows = expected(cuts)
    assert len(store.index["shards"]) > 3
    assert len(store) == len(rows)
    assert store.index["tokens"] == sum(map(len, rows)) == store.sizes_N.sum()
    assert store.index["documents"] == 40 == len(store.documents)
    assert store.index["bytes"] == sum(int(c.bytes_N.sum()) for c in cuts) == store.bytes_N.sum()
    assert store.index["counts"] == {"documents": 40}
    assert [name for name, _ in store.documents] == [c.id for c in cuts]


@given(st.data())
def test_any_windows_in_any_order(store, cuts, data):
    rows = expected(cuts)
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=30))
    read = store.read(np.array(indices, int))
    assert read.shape == (len(indices), CONTEXT) and read.dtype == np.int32
    for got, index in zip(read, indices, strict=True):
        assert got.tolist() == rows[index] + [0] * (CONTEXT - len(rows[index]))


def test_batch_predicts_every_token(store, cuts):
    rows = expected(cuts)
    batch = store.batch(np.arange(len(rows)))
    assert batch["mask"].sum() == sum(map(len, rows))
    short = next(i for i, row in enumerate(rows) if len(row) < CONTEXT)
    size = len(rows[short])
    assert batch["inputs"][short, :size].tolist() == [0, *rows[short][:-1]]
    assert batch["targets"][short, :size].tolist() == rows[short]
    assert batch["mask"][short].tolist() == [1.0] * size + [0.0] * (CONTEXT - size)


def test_index_out_of_range(store):
    for bad in (-1, len(store)):
        with pytest.raises(IndexError):
            store.read(np.array([bad]))


def test_a_killed_writer_goes_on_and_gives_the_same_store(store, cuts, vocabulary, tmp_path):
    class Killed(Exception):
        pass

    def killed_after(count):
        yield from cuts[:count]
        raise Killed

    path = tmp_path / "s"
    with pytest.raises(Killed):
        StoreWriter(path, settings(vocabulary), 2000).write(killed_after(25), collections.Counter())
    with pytest.raises(UserError, match="no finished window store"):
        WindowStore(path)
    writer = StoreWriter(path, settings(vocabulary), 2000)
    assert 0 < writer.documents <= 25
    writer.write(cuts[writer.documents :], collections.Counter())
    again = WindowStore(path)
    assert again.fingerprint == store.fingerprint
    np.testing.assert_array_equal(
        again.read(np.arange(len(again))), store.read(np.arange(len(store)))
    )
    np.testing.assert_array_equal(again.document_N, store.document_N)


def test_nothing_is_overwritten(store, vocabulary, cuts, tmp_path):
    with pytest.raises(UserError, match="holds a finished window store"):
        StoreWriter(store.path, settings(vocabulary), 2000)
    begun = tmp_path / "begun"
    StoreWriter(begun, settings(vocabulary), 10).write(cuts[:5], collections.Counter())
    (begun / "index.json").unlink()
    (begun / "progress.json").write_text(
        json.dumps({"settings": {"version": 1, **settings(vocabulary)}, "shards": []})
    )
    with pytest.raises(UserError, match="other settings"):
        StoreWriter(begun, {**settings(vocabulary), "context": 99}, 10)


def test_another_vocabulary_is_refused(store):
    with pytest.raises(UserError, match="written with vocabulary .* not with aaaa"):
        WindowStore(store.path, "a" * 64)


def test_fingerprint_depends_on_the_content(store, cuts, vocabulary, tmp_path):
    StoreWriter(tmp_path / "s", settings(vocabulary), 2000).write(cuts[1:], collections.Counter())
    assert WindowStore(tmp_path / "s").fingerprint != store.fingerprint


def test_subset_takes_whole_documents_and_is_nested(store):
    everything = store.subset(0)
    assert sorted(everything) == list(range(len(store)))
    before = np.array([], int)
    for tokens in (1, 500, 3000):
        indices = store.subset(tokens)
        chosen = np.unique(store.document_N[indices])
        assert sorted(indices) == np.flatnonzero(np.isin(store.document_N, chosen)).tolist()
        total = store.sizes_N[indices].sum()
        largest = max(store.sizes_N[store.document_N == d].sum() for d in chosen)
        assert tokens <= total < tokens + largest
        assert set(before) <= set(indices)
        before = indices


@pytest.fixture
def copied(store, tmp_path):
    """A store of its own, of two shards or more."""
    return WindowStore(shutil.copytree(store.path, tmp_path / "s"), vocabulary_size=512).path


def change(path, number, name, value):
    file = path / f"{number:05d}.{name}.npy"
    array = np.load(file)
    array[len(array) // 2] = value
    np.save(file, array)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokens", 512, "id 512 is not below 512"),
        ("offsets", 0, "does not rise from 0 to"),
        ("document", 10_000, "documents are not in their order"),
    ],
)
def test_what_no_window_can_have_is_refused(copied, name, value, message):
    change(copied, 1, name, value)
    store = WindowStore(copied, vocabulary_size=512)
    with pytest.raises(UserError, match=f"00001.{name}.npy: .*{message}"):
        store.read(np.arange(len(store)))
        store.document_N  # noqa: B018


def test_a_header_that_promises_more_than_there_is_allocates_nothing(copied):
    file = copied / "00000.tokens.npy"
    content = file.read_bytes()
    size = str(len(np.load(file))).encode()
    file.write_bytes(content.replace(b"(" + size, b"(9" + size, 1))
    with pytest.raises(UserError, match="00000.tokens.npy"):
        WindowStore(copied).read(np.arange(3))


def test_an_index_that_contradicts_itself_is_refused(copied):
    index = json.loads((copied / "index.json").read_text())
    (copied / "index.json").write_text(json.dumps({**index, "windows": index["windows"] + 1}))
    with pytest.raises(UserError, match="says .* windows, its shards have another sum"):
        WindowStore(copied)
    del index["shards"]
    (copied / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="has no 'shards'"):
        WindowStore(copied)
    (copied / "index.json").write_text("{")
    with pytest.raises(UserError, match="index.json: is damaged"):
        WindowStore(copied)


def test_a_shard_that_changed_while_the_writer_was_away_is_noticed(cuts, vocabulary, tmp_path):
    def killed():
        yield from cuts[:25]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        StoreWriter(tmp_path, settings(vocabulary), 2000).write(killed(), collections.Counter())
    change(tmp_path, 0, "tokens", 3)
    with pytest.raises(UserError, match="shard 00000 holds other windows than those"):
        StoreWriter(tmp_path, settings(vocabulary), 2000)
