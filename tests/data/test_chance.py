"""Decisions by hash are independent: capping a corpus, holding documents out, the vocabulary."""

import collections
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specialm.data import shares
from specialm.data.corpora import build
from specialm.data.corpora.catalogue import Corpus
from specialm.data.documents import Document, chance, stable_hash
from specialm.data.sources import open_source
from specialm.data.store import StoreWriter, WindowStore
from specialm.data.windows import Split, windows

SALTS = ("corpus limit", "held out", "vocabulary")


def documents(name, count, size=lambda n: 100):
    return [Document(f"{name}/{n}", "x" * size(n), f"{name}/{n}") for n in range(count)]


def test_every_decision_has_numbers_of_its_own():
    """Correlation of the numbers of 4,000 names, of every pair of decisions and of the plain hash."""
    names = [f"name {n}" for n in range(4000)]
    drawn = np.array([[chance(salt, n) for n in names] for salt in SALTS], float) / 2**64
    drawn = np.concatenate([drawn, [[stable_hash(n) / 2**64 for n in names]]])
    correlation = np.corrcoef(drawn)
    assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(4000)
    for row in drawn:
        assert stats.kstest(row, "uniform").pvalue > 1e-3


@settings(max_examples=12, deadline=None)
@given(st.text(min_size=1, max_size=9), st.floats(0.1, 0.9), st.floats(0.05, 0.5))
def test_a_capped_corpus_holds_out_what_is_asked_for(name, kept, heldout):
    """By a hash of the group alone, as where there are no ranks: of the documents that a limit
    leaves, as large a share is held out as of all, to chance. Before, by one hash, it was
    heldout / kept.
    """
    whole = documents(name, 1000)
    limit = int(kept * 1000) * 100
    sample = build._sample(whole, limit, collections.Counter())
    assert len(sample) == int(kept * 1000)
    share = np.mean([Split(heldout).assign(each) == "heldout" for each in sample])
    sigma = np.sqrt(heldout * (1 - heldout) / len(sample))
    assert abs(share - heldout) < 5.5 * sigma


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=80), st.integers(1, 5), st.floats(0.01, 0.6)
)
def test_ranks_hold_out_a_fraction_of_the_text_to_half_a_group(sizes, per_group, heldout):
    made = [Document(str(n), "x" * size, f"g{n // per_group}") for n, size in enumerate(sizes)]
    ranks = build.split_ranks(made)
    of_group = collections.Counter()
    for each in made:
        of_group[each.group] += len(each.text)
    held = sum(size for group, size in of_group.items() if ranks[group] < heldout)
    assert abs(held - heldout * sum(sizes)) <= max(of_group.values()) / 2 + 1e-6
    assert all(0 <= rank < 1 for rank in ranks.values()) and len(set(ranks.values())) == len(ranks)


def corpus(name, role="generic"):
    return Corpus(name, role, (), 0, "CC0-1.0", "made up")


@pytest.fixture(scope="module")
def sources(tmp_path_factory, vocabulary):
    """Generic sources as they are fetched: capped, of unlike sizes, one of few large documents."""
    root = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    for name, count, limit, letters in (
        ("few", 60, 120_000, 6000),
        ("many", 900, 400_000, 900),
        ("all", 300, 10**9, 700),
    ):
        made = [
            Document(f"{name}/{n}", "word " * int(size / 5), f"{name}/{n}")
            for n, size in enumerate(rng.integers(letters // 2, letters, count))
        ]
        kept = build._sample(made, limit, collections.Counter())
        build.write(corpus(name), root, kept)
    return open_source("corpora:generic", corpora_root=str(root))


def test_held_out_text_represents_every_source(sources, vocabulary, tmp_path):
    stores = {}
    for split in ("train", "heldout"):
        made = windows(sources, vocabulary, 64, Split(0.15), split, collections.Counter())
        StoreWriter(
            tmp_path / split, {"context": 64, "vocabulary_sha256": vocabulary.sha256}, 10**6
        ).write(made, collections.Counter())
        stores[split] = WindowStore(tmp_path / split)
    found = shares.by_source(stores["train"], stores["heldout"])
    assert [row["source"] for row in found] == ["many.jsonl", "all.jsonl", "few.jsonl"]
    assert shares.farthest(found) < 0.02
    for name in stores:
        assert sum(row[name] for row in found) == pytest.approx(1)
    size = {name: sum(int(b) for b in store.bytes_N) for name, store in stores.items()}
    assert size["heldout"] / sum(size.values()) == pytest.approx(0.15, abs=0.01)
    assert shares.lines(found)[1].split() == [
        "many.jsonl",
        f"{found[0]['train']:.1%}",
        f"{found[0]['heldout']:.1%}",
    ]


def test_small_sources_are_taken_together(monkeypatch, sources, vocabulary, tmp_path):
    made = windows(sources, vocabulary, 64, Split(0.05), "train", collections.Counter())
    StoreWriter(
        tmp_path / "s", {"context": 64, "vocabulary_sha256": vocabulary.sha256}, 10**6
    ).write(made, collections.Counter())
    store = WindowStore(tmp_path / "s")
    monkeypatch.setattr(shares, "SHOWN", 1)
    found = shares.by_source(store, store)
    assert [row["source"] for row in found] == ["many.jsonl", shares.OTHERS]
    assert sum(row["train"] for row in found) == pytest.approx(1)
    monkeypatch.setattr(shares, "MOST_DOCUMENTS", 3)
    assert shares.by_source(store, store) == []


@pytest.mark.parametrize(
    "value, kept", [("0.5", True), (0.25, True), (0, True), (None, True), (1, False), ("x", False)]
)
def test_a_row_says_where_it_stands(tmp_path, value, kept):
    """`split_rank` of a row: a number from 0 to 1, else the row is skipped and told."""
    rows = [{"text": "one", "split_rank": value}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = collections.Counter()
    found = list(open_source(f"jsonl:{tmp_path / 'a.jsonl'}").documents(counts))
    assert len(found) == kept
    if not kept:
        assert counts["skipped: field 'split_rank' is no number from 0 to 1"] == 1
    elif value is None:
        assert found[0].split_rank is None
    else:
        assert found[0].split_rank == float(value)
        assert Split(0.3).assign(found[0]) == ("heldout" if float(value) < 0.3 else "train")
