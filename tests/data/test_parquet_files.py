"""Parquet files, Hugging Face repositories on disk, and filters on a field."""

import collections
import gzip
import json

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from specialm.common.errors import UserError
from specialm.data import parquet_files, repositories
from specialm.data.documents import MAX_BYTES
from specialm.data.sources import Document, open_source, resolve_source


def read(spec, **settings):
    counts = collections.Counter()
    return list(open_source(spec, **settings).documents(counts)), counts


def write_parquet(path, rows, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **settings)
    return path


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path.write_bytes(pack.get(path.suffix, bytes)(content))


def test_parquet_rows_in_order_and_bad_ones_counted(tmp_path):
    rows = [
        {"id": "a", "text": "first", "group": "g"},
        {"text": None},
        {"text": " "},
        {"text": "sécond"},
        {"text": "a\0b"},
    ]
    write_parquet(tmp_path / "1.parquet", rows)
    write_parquet(
        tmp_path / "0.parquet", [{"text": f"t{i}", "n": i} for i in range(300)], row_group_size=100
    )
    documents, counts = read(f"parquet:{tmp_path}")
    assert [d.text for d in documents] == [*(f"t{i}" for i in range(300)), "first", "sécond"]
    assert documents[299] == Document("0.parquet/299", "t299", "0.parquet/299")
    assert documents[300:] == [
        Document("1.parquet/0:a", "first", "g"),
        Document("1.parquet/3", "sécond", "1.parquet/3"),
    ]
    assert counts == {
        "documents": 302,
        "skipped: no text in field 'text'": 1,
        "skipped: empty": 1,
        "skipped: binary (NUL bytes)": 1,
    }


def test_parquet_text_that_is_not_utf8_is_skipped_and_counted(tmp_path):
    values = pyarrow.array([b"good", b"caf\xe9", b"more"], pyarrow.binary())
    text = pyarrow.StringArray.from_buffers(3, *values.buffers()[1:])
    parquet.write_table(pyarrow.table({"text": text}), tmp_path / "x.parquet")
    documents, counts = read(f"parquet:{tmp_path}")
    assert [d.text for d in documents] == ["good", "more"]
    assert counts == {"documents": 2, "skipped: not UTF-8": 1}


def test_one_row_group_is_in_memory_at_a_time(tmp_path):
    rows = [{"text": f"{i} " + "x" * 10_000} for i in range(2000)]  # 20 MB
    path = write_parquet(tmp_path / "x.parquet", rows, row_group_size=100)
    del rows
    before = pyarrow.total_allocated_bytes()
    most = max(
        pyarrow.total_allocated_bytes() - before
        for _ in parquet_files.PARQUET.records(path, ("text",), MAX_BYTES)
    )
    assert 0 < most < 5e6


def test_damaged_parquet_and_missing_columns(tmp_path):
    path = write_parquet(tmp_path / "x.parquet", [{"text": "t", "n": 1}])
    with pytest.raises(UserError, match=r"data.field='body': .*x.parquet has the columns \['text'"):
        read(f"parquet:{path}", field="body")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="x.parquet: cannot be read to its end"):
        read(f"parquet:{path}")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00003.parquet", "train"),
        ("val.jsonl.zst", "validation"),
        ("en/c4-train.00000-of-01024.json.gz", "train"),
        ("test.jsonl.gz", "test"),
        ("en/c4-validation.00000-of-00008.json.gz", "validation"),
        ("data/part.parquet", None),
        ("train/00.jsonl.zst", "train"),
        ("dev/0.parquet", "validation"),
        ("latest.jsonl", None),
        ("trains/constrained.jsonl", None),
        ("test/train.jsonl", "train"),
        ("Test1.jsonl", "test"),
    ],
)
def test_the_split_that_a_path_says(tmp_path, path, split):
    assert repositories.split_of(tmp_path.__class__(path)) == split


def test_a_repository_on_disk(tmp_path):
    root = tmp_path / "test" / "repo"  # a folder above it says nothing
    write_parquet(root / "data" / "train-00001-of-00002.parquet", [{"text": "two"}])
    write_parquet(root / "data" / "train-00000-of-00002.parquet", [{"text": "one"}])
    write_parquet(root / "data" / "test-00000-of-00001.parquet", [{"text": "three"}])
    write_jsonl(root / "train.jsonl.zst", [{"text": "four"}])
    write_jsonl(root / "dataset_infos.json", [{"text": "no text"}])
    for spec, texts in {
        f"hf:{root}": ["one", "two", "four"],
        f"hf:{root}:test": ["three"],
        f"hf:{root}:train": ["one", "two", "four"],
    }.items():
        assert [d.text for d in read(spec)[0]] == texts, spec
    with pytest.raises(
        UserError, match="no file of the split 'validation'; there are files of test, train"
    ):
        read(f"hf:{root}:validation")
    with pytest.raises(UserError, match="unknown split 'all'; use train, validation, test"):
        read(f"hf:{root}:all")
    with pytest.raises(UserError, match="no such file or folder"):
        read("hf:/nowhere:train")


def test_c4_as_it_is_downloaded(tmp_path):
    for split, text in (("train", "words"), ("validation", "others")):
        write_jsonl(
            tmp_path / "c4" / "en" / f"c4-{split}.00000-of-00001.json.gz",
            [{"text": text, "timestamp": "2019", "url": "u"}],
        )
    for split, text in (("", "words"), (":validation", "others")):
        assert [d.text for d in read(f"hf:{tmp_path / 'c4' / 'en'}{split}")[0]] == [text]


def test_files_that_name_no_split_are_train(tmp_path):
    write_jsonl(tmp_path / "x.jsonl", [{"text": "words"}])
    assert [d.text for d in read(f"hf:{tmp_path}:train")[0]] == ["words"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_filter_on_a_field_of_a_field(tmp_path, kind):
    rows = [
        {"text": f"t{i}", "meta": {"pile_set_name": name, "n": i}}
        for i, name in enumerate(["ArXiv", "Gutenberg (PG-19)", "ArXiv"])
    ]
    if kind == "jsonl":
        write_jsonl(tmp_path / "x.jsonl.zst", [*rows, {"text": "bare"}, {"meta": {}}, 7])
    else:
        write_parquet(tmp_path / "x.parquet", rows)
    documents, counts = read(f"{kind}:{tmp_path}?meta.pile_set_name=ArXiv")
    assert [(d.id, d.text) for d in documents] == [
        (f"{path.name}/{i}", f"t{i}") for path in tmp_path.iterdir() for i in (0, 2)
    ]
    assert counts["left out: meta.pile_set_name is not ArXiv"] == (3 if kind == "jsonl" else 1)
    assert counts["skipped: no text in field 'text'"] == (1 if kind == "jsonl" else 0)
    for spec in (f"{kind}:{tmp_path}", f"hf:{tmp_path}", f"hf:{tmp_path}:train"):
        found, _ = read(f"{spec}?meta.pile_set_name=Gutenberg (PG-19)")
        assert [d.text for d in found] == ["t1"]
    assert [d.text for d in read(f"{kind}:{tmp_path}?meta.n=2")[0]] == ["t2"]


def test_a_path_to_parquet_names_a_source(tmp_path):
    path = write_parquet(tmp_path / "Our Web.parquet", [{"text": "t"}])
    assert resolve_source(str(path)) == ("our-web", f"parquet:{path}")
    assert resolve_source("hf:/data/c4/en:train") == ("en-train", "hf:/data/c4/en:train")
    assert resolve_source("jsonl:/d/pile?meta.pile_set_name=ArXiv") == (
        "pile-meta",
        "jsonl:/d/pile?meta.pile_set_name=ArXiv",
    )
