"""Limits of documents and lines, packed files as streams, and mutated records."""

import gzip
import json
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import readers
from specialm.common.errors import UserError
from specialm.data import packed_files
from specialm.data.documents import Counts
from specialm.data.packed_files import read_lines
from specialm.data.sources import open_source
from specialm.data.text_files import CUT

TOO_LARGE = "skipped: larger than data.max_document_bytes"
FILES = 100 if os.environ.get("SPECIALM_FUZZ") == "all" else 8


def read(spec, **settings):
    counts = Counts()
    return list(open_source(spec, **settings).documents(counts)), counts


@pytest.mark.parametrize("kind", readers.KINDS)
def test_mutated_records_are_documents_or_counted_or_the_file_is_named(kind):
    found = readers.fuzz(kind, FILES, seed=1)
    assert found["foreign"] == []
    assert found["documents"] > 0 and found.get("skipped", found.get("files that are an error")) > 0


@given(
    st.binary(max_size=300), st.sampled_from(["jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet"])
)
def test_any_bytes_are_read_or_named(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / f"any.{kind}"
    path.write_bytes(content)
    try:
        documents, _ = read(f"{kind.split('.')[0]}:{path}")
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert all(d.text.encode() for d in documents)


@given(st.lists(st.binary(max_size=12), max_size=8), st.integers(1, 10))
def test_lines_up_to_the_limit(tmp_path_factory, lines, limit):
    lines = [line.replace(b"\n", b"") for line in lines]
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    expected = [line + b"\n" if len(line) <= limit else None for line in lines]
    assert list(read_lines(path, limit)) == expected


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
def test_a_row_that_is_too_large_is_skipped_and_the_next_is_read(tmp_path, packing):
    rows = ["small", "x" * 5000, "next", "y" * 101, "z" * 100]
    pack = readers.PACKINGS[packing]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
    (tmp_path / f"a.jsonl{packing}").write_bytes(pack(lines.encode()))
    cells = "".join(f'"{row}"\r\n' for row in ["text", *rows])
    (tmp_path / f"a.csv{packing}").write_bytes(pack(cells.encode()))
    for kind in ("jsonl", "csv"):
        documents, counts = read(f"{kind}:{tmp_path}", max_document_bytes=112)
        assert [d.text for d in documents][:2] == ["small", "next"]
        assert counts[TOO_LARGE] >= 1 and counts["documents"] + counts[TOO_LARGE] == 5
        assert counts.examples[TOO_LARGE][0].endswith(("line 2", "row 2"))


def test_the_limit_is_on_bytes_of_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "éé"}\n{"text": "ééé"}\n{"text": "abcde"}\n')
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["éé", "ééé", "abcde"]}), tmp_path / "a.parquet")
    documents, counts = read(f"parquet:{tmp_path}", max_document_bytes=5)
    assert [d.text for d in documents] == ["éé", "abcde"] and counts[TOO_LARGE] == 1


def test_a_csv_field_that_is_never_closed_ends_at_the_limit(tmp_path):
    lines = ["text", "good", '"never closed', *(["x" * 50] * 100), "last"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    documents, counts = read(f"csv:{tmp_path}", max_document_bytes=1000)
    assert documents[0].text == "good" and documents[-1].text == "last"
    assert counts[TOO_LARGE] == 1 and counts["documents"] > 50


@given(st.text(min_size=1, max_size=200), st.integers(8, 40))
def test_a_large_file_is_cut_into_parts_of_one_group(tmp_path_factory, text, limit):
    text = text.replace("\0", "").replace("\ufeff", "").encode("utf-8", "ignore").decode()
    folder = tmp_path_factory.getbasetemp() / "parts"
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_bytes(text.encode())
    documents, counts = read(f"folder:{folder}", max_document_bytes=limit)
    parts = [d.text for d in documents]
    if len(text.encode()) <= limit:
        assert parts == [text] * bool(text.strip())
        return
    assert counts[CUT] == 1 and all(len(part.encode()) <= limit for part in parts)
    assert {d.group for d in documents} <= {"a.txt"} and len({d.id for d in documents}) == len(
        parts
    )
    if not counts["skipped: empty"]:
        assert "".join(parts) == text


def test_a_large_file_that_is_no_text_is_looked_at_once(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(1000))
    (tmp_path / "b.txt").write_bytes(b"text " * 30 + b"\xff" * 900)
    documents, counts = read(f"folder:{tmp_path}", max_document_bytes=100)
    assert [d.id for d in documents] == ["b.txt#0"]
    assert counts == {
        "documents": 1,
        CUT: 2,
        "skipped: binary (NUL bytes)": 1,
        "skipped: not UTF-8": 1,
    }


def test_a_long_window_is_read_and_a_longer_one_named(tmp_path, monkeypatch):
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=28, write_content_size=False
    )
    pack = zstandard.ZstdCompressor(compression_params=parameters)
    stream = pack.compressobj()
    content = stream.compress(b'{"text": "words"}\n' * 9) + stream.flush()
    (tmp_path / "a.jsonl.zst").write_bytes(content)
    assert zstandard.get_frame_parameters(content).window_size == 1 << 28
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor().decompressobj().decompress(content)
    assert len(read(f"jsonl:{tmp_path}")[0]) == 9
    monkeypatch.setattr(packed_files, "WINDOW_BYTES", 1 << 27)
    with pytest.raises(UserError, match="a window of 268,435,456 bytes, of which 134,217,728 are"):
        read(f"jsonl:{tmp_path}")


@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_a_bomb_is_read_in_bounded_memory(tmp_path, packing):
    """300 MB of text in one line, in some kilobytes; the limit is 2 MB."""
    empty = tmp_path / "a.jsonl"
    empty.write_text('{"text": "words"}\n')
    path = tmp_path / f"b.jsonl.{packing}"
    open_packed = gzip.open if packing == "gz" else zstandard.open
    with open_packed(path, "wb") as stream:
        for _ in range(300):
            stream.write(b"a" * 1_000_000)
    assert path.stat().st_size < 400_000 * 5
    used = readers.peak(f"jsonl:{path}", 2_000_000) - readers.peak(f"jsonl:{empty}", 2_000_000)
    assert used < 120e6


def test_memory_does_not_grow_with_the_input():
    for kind in ("jsonl.zst", "parquet"):
        assert readers.memory(kind, (2, 20), 1_000_000)["ratio"] < 1.3
