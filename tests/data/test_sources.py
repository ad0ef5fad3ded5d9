import collections
import gzip
import json

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
        Document(f"x.{ending}/0:a", "first", "a"),
        Document(f"x.{ending}/1", "second", f"x.{ending}/1"),
        Document(f"x.{ending}/4:b", "third", "g"),
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
    with pytest.raises(UserError, match=r"data.field='text'.* have words \(string \[\]\)"):
        read("seqio:specialm_test_source")
    with pytest.raises(UserError, match="no seqio Task of that name"):
        read("seqio:unknown")
    with pytest.raises(UserError, match="tfds:no_such_builder"):
        read("tfds:no_such_builder")


def add_task(name, rows, preprocessors=(), output_features=None):
    """Registers a seqio Task over these rows."""
    import seqio
    import tensorflow as tf

    def dataset(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices(rows)

    seqio.TaskRegistry.add(
        name,
        seqio.FunctionDataSource(dataset, splits=["train"]),
        preprocessors=list(preprocessors),
        output_features=output_features or {},
    )


def test_a_task_is_read_through_its_preprocessors():
    import tensorflow as tf

    def upper(dataset):
        return dataset.map(lambda row: {"text": tf.strings.upper(row["text"])})

    def only_long(dataset):
        return dataset.filter(lambda row: tf.strings.length(row["text"]) > 3)

    add_task("specialm_test_upper", {"text": ["one", "three"]}, [upper, only_long])
    documents, counts = read("seqio:specialm_test_upper")
    assert [d.text for d in documents] == ["THREE"] and counts == {"documents": 1}


def test_a_task_whose_preprocessors_leave_no_text_says_that_it_is_read_raw():
    import tensorflow as tf

    def numbers(dataset):
        return dataset.map(lambda row: {"targets": tf.strings.length(row["text"])})

    def fails(dataset):
        raise RuntimeError("needs a sequence length")

    add_task("specialm_test_numbers", {"text": ["one", "two"]}, [numbers])
    documents, counts = read("seqio:specialm_test_numbers")
    assert [d.text for d in documents] == ["one", "two"]
    (note,) = [key for key in counts if key.startswith("note: ")]
    assert "specialm_test_numbers:train is read without its preprocessors: what they give" in note
    with pytest.raises(
        UserError, match=r"targets \(int32 \[\]\), its raw examples have text \(str"
    ):
        read("seqio:specialm_test_numbers", field="targets")
    add_task("specialm_test_fails", {"text": ["one"]}, [fails])
    documents, counts = read("seqio:specialm_test_fails")
    assert [d.text for d in documents] == ["one"]
    assert any("they fail: RuntimeError: needs a sequence" in key for key in counts)


def test_a_mixture_is_the_text_of_its_tasks():
    import seqio

    add_task("specialm_test_part_b", {"text": ["three"]})
    add_task("specialm_test_part_a", {"text": ["one", "two"]})
    seqio.MixtureRegistry.add(
        "specialm_test_mixture", [("specialm_test_part_b", 9), ("specialm_test_part_a", 1)]
    )
    documents, counts = read("seqio:specialm_test_mixture")
    assert [d.text for d in documents] == ["one", "two", "three"]
    assert len({d.id for d in documents}) == 3
    assert any("is a Mixture: every example of its 2 Tasks is read once" in key for key in counts)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([[1, 2]], r"int32 \[2\]"), ([1.5], "float32"), ([["a", "b"]], r"string \[2\]")],
)
def test_a_field_that_is_no_text_is_an_error_that_names_its_type(values, kind):
    name = f"specialm_test_type_{len(kind)}"
    add_task(name, {"text": values})
    with pytest.raises(UserError, match=f"data.field='text': .* text \\({kind}"):
        read(f"seqio:{name}")


def test_a_module_that_registers_tasks_and_fails(tmp_path, monkeypatch):
    (tmp_path / "fails_on_import.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    for module, why in (("fails_on_import", "ZeroDivisionError"), ("not_there", "ModuleNotFound")):
        with pytest.raises(UserError, match=f"data.seqio_modules: {module!r} cannot be .*{why}"):
            read("seqio:x", seqio_modules=(module,))


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
