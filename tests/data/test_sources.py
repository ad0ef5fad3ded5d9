import collections
import gzip
import json

import needs
import pytest
import zstandard

from specialm.common.errors import UserError
from specialm.data.sources import Document, open_source, resolve_source, stable_hash

LINES = [
    {"id": "a", "text": "first"},
    {"text": "second"},
    {"text": "   "},
    {"other": 1},
    {"id": "b", "text": "third", "group": "g"},
]


def read(spec, **settings):
    counts = collections.Counter()
    return list(open_source(spec, **settings).documents(counts)), counts


def test_folder_reads_every_file_in_order_and_counts_what_it_skips(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("bé", encoding="utf-8")
    (tmp_path / "sub" / "a.md").write_text("deep")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"packed"))
    documents, counts = read(f"folder:{tmp_path}")
    assert [(d.id, d.text) for d in documents] == [
        ("b.txt", "bé"),
        ("packed.txt.gz", "packed"),
        ("sub/a.md", "deep"),
    ]
    assert counts == {"documents": 3, "skipped: not UTF-8": 1, "skipped: empty": 1}


def test_one_file_is_a_folder_of_one(tmp_path):
    (tmp_path / "only.txt").write_text("text")
    documents, _ = read(f"folder:{tmp_path / 'only.txt'}")
    assert [(d.id, d.text) for d in documents] == [("only.txt", "text")]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_jsonl_in_every_packing(tmp_path, ending):
    content = "".join(json.dumps(line) + "\n" for line in LINES).encode() + b"{broken\n\xff\xfe\n\n"
    pack = {
        "jsonl": bytes,
        "jsonl.gz": gzip.compress,
        "jsonl.zst": zstandard.ZstdCompressor().compress,
    }[ending]
    (tmp_path / f"x.{ending}").write_bytes(pack(content))
    documents, counts = read(f"jsonl:{tmp_path}")
    assert documents == [
        Document("a", "first", "a"),
        Document(f"x.{ending}/1", "second", f"x.{ending}/1"),
        Document("b", "third", "g"),
    ]
    assert counts == {
        "documents": 3,
        "skipped: empty": 1,
        "skipped: not JSON": 1,
        "skipped: not UTF-8": 1,
        "skipped: no text in field 'text'": 1,
    }


def test_jsonl_field_is_configurable(tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "x.jsonl", [{"body": "hello", "text": "no"}])
    documents, _ = read(f"jsonl:{path}", field="body")
    assert [d.text for d in documents] == ["hello"]


def test_half_a_surrogate_pair_is_skipped_and_counted(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "bad \\ud800"}\n{"text": "good \\ud83d\\ude00"}\n')
    documents, counts = read(f"jsonl:{tmp_path}")
    assert [d.text for d in documents] == ["good \U0001f600"]
    assert counts == {"documents": 1, "skipped: not UTF-8": 1}


def test_a_truncated_archive_is_an_error_that_names_it(tmp_path):
    packed = gzip.compress(b'{"text": "some words"}\n' * 1000)
    (tmp_path / "x.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match="x.jsonl.gz: cannot be read to its end"):
        read(f"jsonl:{tmp_path}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("folder:/nowhere", "no such file or folder: '/nowhere'"),
        ("jsonl:", "no such file or folder"),
        ("http:x", "unknown scheme 'http'"),
        ("corpora:med", "run `specialm fetch` first"),
    ],
)
def test_bad_sources(spec, message, tmp_path):
    with pytest.raises(UserError, match=message):
        open_source(spec, corpora_root=str(tmp_path))


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match="no file below"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "x.txt").write_text("t")
    with pytest.raises(UserError, match="no file ending in .jsonl"):
        open_source(f"jsonl:{tmp_path}")


def test_stable_hash_is_the_same_in_every_process():
    # BLAKE2b of "specialm" by another implementation: b2sum -l 64.
    assert stable_hash("specialm") == int.from_bytes(bytes.fromhex("27524e7a5d651c41"), "little")


@needs.SEQIO
def test_seqio_task_and_tfds_data_source(tmp_path):
    import seqio
    import tensorflow as tf

    texts = ["one", "two", ""]
    seqio.TaskRegistry.add(
        "specialm_test_source",
        seqio.FunctionDataSource(
            lambda split, shuffle_files=False, seed=None: tf.data.Dataset.from_tensor_slices(
                {"words": texts}
            ),
            splits=["train"],
        ),
        preprocessors=[],
        output_features={},
    )
    documents, counts = read("seqio:specialm_test_source", field="words")
    assert [d.text for d in documents] == ["one", "two"]
    assert counts["skipped: empty"] == 1
    with pytest.raises(UserError, match=r"data.field='text'.*\['words'\]"):
        read("seqio:specialm_test_source")
    with pytest.raises(UserError, match="no seqio Task of that name"):
        read("seqio:unknown")
    with pytest.raises(UserError, match="tfds:no_such_builder"):
        read("tfds:no_such_builder")


@needs.SEQIO
def test_tfds_by_name_version_and_split(tmp_path, monkeypatch):
    """A prepared data set on disk in the random-access format, no network."""
    import tensorflow_datasets as tfds

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.3")
        pkg_dir_path = tmp_path  # where it would look for a README and checksums
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="plain")]

        def _info(self):
            features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            return {
                "train": self._generate_examples("one", "two"),
                "test": self._generate_examples("three"),
            }

        def _generate_examples(self, *texts):
            yield from enumerate({"text": text} for text in texts)

    Tiny(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for spec, texts in {
        "tfds:tiny/plain": ["one", "two"],
        "tfds:tiny/plain:1.2.3": ["one", "two"],
        "tfds:tiny/plain:1.2.3:test": ["three"],
    }.items():
        assert sorted(d.text for d in read(spec)[0]) == sorted(texts), spec


def test_binary_files_are_skipped_and_counted(notes):
    documents, counts = read(f"folder:{notes}")
    assert len(documents) == 30 and "more/7.txt" in [d.id for d in documents]
    assert counts == {"documents": 30, "skipped: binary (NUL bytes)": 2, "skipped: not UTF-8": 1}


def test_a_nul_in_a_jsonl_text_is_skipped_and_counted(tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "x.jsonl", [{"text": "a\0b"}, {"text": "good"}])
    documents, counts = read(f"jsonl:{path}")
    assert [d.text for d in documents] == ["good"]
    assert counts == {"documents": 1, "skipped: binary (NUL bytes)": 1}


def test_zstd_of_several_frames_is_read_to_its_end(tmp_path):
    pack = zstandard.ZstdCompressor().compress
    text = "".join(f"line {i}\n" for i in range(50_000))
    (tmp_path / "x.txt.zst").write_bytes(pack(text.encode()) + pack(b"") + pack(b"the end"))
    documents, _ = read(f"folder:{tmp_path}")
    assert documents[0].text == text + "the end"


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("gz", b"not packed"),
        ("gz", gzip.compress(b"text " * 99)[:-9]),
        ("zst", b"not packed"),
        ("zst", zstandard.ZstdCompressor().compress(b"text " * 99)[:-9]),
    ],
    ids=["gz-not-packed", "gz-cut", "zst-not-packed", "zst-cut"],
)
def test_a_damaged_archive_in_a_folder_is_skipped_and_counted(tmp_path, ending, content):
    (tmp_path / f"a.txt.{ending}").write_bytes(content)
    (tmp_path / "b.txt").write_text("text")
    documents, counts = read(f"folder:{tmp_path}")
    assert [d.id for d in documents] == ["b.txt"]
    assert counts == {"documents": 1, "skipped: cannot be read": 1}


def test_a_path_names_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Our Notes", "generic"):
        (tmp_path / name).mkdir()
    (tmp_path / "web.2024.jsonl.gz").write_bytes(b"")
    (tmp_path / "Büro.txt").write_text("text")
    for spec, wanted in {
        "Our Notes": ("our-notes", "folder:Our Notes"),
        "folder:Our Notes/": ("our-notes", "folder:Our Notes"),
        "folder:.": (tmp_path.name.replace("_", "-"), "folder:."),
        "generic": ("generic-text", "folder:generic"),  # that name is taken
        "web.2024.jsonl.gz": ("web", "jsonl:web.2024.jsonl.gz"),
        "Büro.txt": ("b-ro", "folder:Büro.txt"),
        "folder:...": ("text", "folder:..."),
        "tfds:ag_news/x:train": ("ag-news-x-train", "tfds:ag_news/x:train"),
    }.items():
        assert resolve_source(spec) == wanted
    with pytest.raises(
        UserError, match="--source=nowhere: no such file or folder; give one, or folder:..., jsonl:"
    ):
        resolve_source("nowhere")
    with pytest.raises(UserError, match="--source=http:x"):
        resolve_source("http:x")
