"""c4 and the Pile as Tasks, on small files in the layout of the real ones."""

import json

import needs
import numpy as np
import pytest
import zstandard

from specialm.common.errors import UserError
from specialm.data import published

pytestmark = needs.SEQIO
CONTEXT, HELDOUT, PER_SET = 24, 3, 8


def texts_of(name, real_documents):
    """Eight texts for each subset, no two subsets the same."""
    first = list(published.PILE).index(name) * PER_SET
    return [text[:400] for text in real_documents[first : first + PER_SET]]


def pile_rows(real_documents):
    """Rows of all subsets in turn, as the Pile mixes them."""
    columns = {name: texts_of(name, real_documents) for name in published.PILE}
    return [
        {"text": columns[name][i], "meta": {"pile_set_name": published.PILE[name]}}
        for i in range(PER_SET)
        for name in published.PILE
    ]


def write(path, rows, parquet):
    path.parent.mkdir(parents=True, exist_ok=True)
    if parquet:
        import pyarrow
        from pyarrow import parquet as files

        files.write_table(pyarrow.Table.from_pylist(rows), path.with_suffix(".parquet"))
    else:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.with_suffix(".jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(lines))


def write_corpora(root, real_documents, parquet):
    """c4/en and pile under `root`."""
    rows = pile_rows(real_documents)
    for number in range(2):
        write(
            root / "pile" / "train" / f"{number:02d}",
            rows[number * 36 : (number + 1) * 36],
            parquet,
        )
    write(root / "pile" / "val", [{**rows[0], "text": "held out by the Pile itself"}], parquet)
    for split in ("train", "validation"):
        write(
            root / "c4" / "en" / f"c4-{split}-00000-of-00001",
            [{"text": f"{split} {text}", "url": "u"} for text in real_documents[:4]],
            parquet,
        )
    return root


@pytest.fixture
def empty_registry():
    import seqio

    kept = dict(seqio.TaskRegistry._REGISTRY)
    yield
    seqio.TaskRegistry._REGISTRY.clear()
    seqio.TaskRegistry._REGISTRY.update(kept)


def tokens_of(text, vocabulary):
    """As seqio's own tokeniser cuts it, which breaks ties unlike ours; with eos."""
    import seqio

    made = seqio.SentencePieceVocabulary(str(vocabulary.path)).encode_tf(text).numpy().tolist()
    assert vocabulary.decode(made) == text
    return [*made, vocabulary.eos]


def windows_of(texts, vocabulary):
    """These texts in non-overlapping windows."""
    return [
        tokens[start : start + CONTEXT]
        for tokens in (tokens_of(text, vocabulary) for text in texts)
        for start in range(0, len(tokens), CONTEXT)
    ]


def read(name, split):
    import seqio

    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length={"targets": CONTEXT}, split=split, shuffle=False
    )
    return [example["targets"].tolist() for example in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("parquet", [pytest.param(False, marks=pytest.mark.slow), True])
def test_every_task_gives_its_own_windows(
    tmp_path, real_documents, vocabulary, empty_registry, parquet, monkeypatch
):
    monkeypatch.setattr(published, "SPECIALIST_TOKENS", {"1m": 150, "8m": 400})
    root = write_corpora(tmp_path, real_documents, parquet)
    names = published.register(vocabulary.path, root, CONTEXT, HELDOUT)
    assert len(names) == len(set(names)) == 2 + 9 * 3
    for split in ("train", "validation"):
        texts = [f"{split} {text}" for text in real_documents[:4]]
        assert read("specialm_c4_hf", split) == windows_of(texts, vocabulary)
    for name in published.PILE if not parquet else ("arxiv", "wikipedia"):
        texts = texts_of(name, real_documents)
        assert read(f"specialm_pile_{name}", "heldout") == windows_of(texts[:HELDOUT], vocabulary)
        train = windows_of(texts[HELDOUT:], vocabulary)
        assert read(f"specialm_pile_{name}", "train") == train
        for size, tokens in published.SPECIALIST_TOKENS.items():
            sizes = [len(tokens_of(text, vocabulary)) for text in texts[HELDOUT:]]
            whole = int(np.searchsorted(np.cumsum(sizes), tokens)) + 1
            assert read(f"specialm_pile_{name}_{size}", "train") == windows_of(
                texts[HELDOUT:][:whole], vocabulary
            ), (name, size)


def test_registration(tmp_path, vocabulary, empty_registry):
    """Names, splits, features and published settings of every Task; nothing is read."""
    import seqio

    names = published.register(vocabulary.path, tmp_path / "not there yet")
    expected = ["specialm_c4", "specialm_c4_hf"] + [
        f"specialm_pile_{name}{size}"
        for name in published.PILE
        for size in ("", "_1m", "_8m", "_64m")
    ]
    assert names == expected and len(names) == 38
    for name in names:
        task = seqio.TaskRegistry.get(name)
        splits = {
            "specialm_c4": {"train", "validation"},
            "specialm_c4_hf": {"train", "validation"},
        }.get(name, {"train", "heldout"})
        assert set(task.splits) == ({"train"} if name.endswith("m") else splits), name
        (feature,) = task.output_features.values()
        assert feature.vocabulary.vocab_size == vocabulary.size and feature.add_eos
    assert seqio.TaskRegistry.get("specialm_c4").source.tfds_dataset.name == "c4/en:2.2.0"
    assert published.CONTEXT == 1024 and published.HELDOUT_DOCUMENTS == 20_000
    with pytest.raises(UserError, match="'specialm_c4' already"):
        published.register(vocabulary.path)
    with pytest.raises(UserError, match="vocabulary_path='nowhere'"):
        published.register("nowhere")


def test_c4_from_tfds(vocabulary, empty_registry, real_documents, tmp_path):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    published.register(vocabulary.path, context=CONTEXT)
    texts = real_documents[:3]

    def as_dataset(self, **settings):
        fields = {name: tf.constant([""] * 3) for name in self.info.features if name != "text"}
        return tf.data.Dataset.from_tensor_slices({**fields, "text": texts})

    builder = tfds.builder(published.C4, data_dir=str(tmp_path))
    builder.info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.SplitInfo(name=name, shard_lengths=[3], num_bytes=1)
                for name in ("train", "validation")
            ]
        )
    )
    (tmp_path / "c4" / "en" / "2.2.0").mkdir(parents=True)
    builder.info.write_to_directory(builder.data_dir)
    with tfds.testing.mock_data(num_examples=3, as_dataset_fn=as_dataset, data_dir=str(tmp_path)):
        assert read("specialm_c4", "train") == windows_of(texts, vocabulary)


def test_as_a_source_of_our_own(tmp_path, real_documents, empty_registry, monkeypatch):
    """The module of `data.seqio_modules`: raw text, no vocabulary needed."""
    import collections
    import sys

    from specialm.data.sources import open_source

    root = write_corpora(tmp_path, real_documents, parquet=False)
    monkeypatch.setenv("SPECIALM_TEXT", str(root))
    monkeypatch.delenv("SPECIALM_VOCABULARY", raising=False)
    module = "specialm.data.published_tasks"
    monkeypatch.delitem(sys.modules, module, raising=False)
    source = open_source("seqio:specialm_c4_hf", seqio_modules=(module,))
    made = [document.text for document in source.documents(collections.Counter())]
    assert made == [f"train {text}" for text in real_documents[:4]]
