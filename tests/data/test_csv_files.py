"""CSV sources against Python's own writer."""

import collections
import csv
import gzip
import io

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data.documents import MAX_BYTES
from specialm.data.sources import Document, open_source, resolve_source

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


def as_csv(rows: list[list[str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


def read(spec: str, **settings):
    counts = collections.Counter()
    return list(open_source(spec, **settings).documents(counts)), counts


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_every_text_comes_back_unchanged(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(as_csv([["n", "text"], *([str(i), text] for i, text in enumerate(texts))]))
    documents, counts = read(f"csv:{path}")
    assert documents == [Document(f"x.csv/{i}", t, f"x.csv/{i}") for i, t in enumerate(texts)]
    assert counts == {"documents": len(texts)}


def test_a_folder_with_packed_files_names_groups_and_another_field(tmp_path):
    content = as_csv([["id", "group", "body"], ["a", "book", "one\ntwo"], ["", "", 'say "three"']])
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + content)  # with a byte order mark
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    (tmp_path / "c.csv.zst").write_bytes(zstandard.ZstdCompressor().compress(content))
    (tmp_path / "notes.txt").write_text("not read")
    documents, counts = read(f"csv:{tmp_path}", field="body")
    expected = []
    for name in ("a.csv", "b.csv.gz", "c.csv.zst"):
        expected += [
            Document(f"{name}/0:a", "one\ntwo", "book"),
            Document(f"{name}/1", 'say "three"', f"{name}/1"),
        ]
    assert documents == expected
    assert counts == {"documents": 6}


def test_bad_rows_are_skipped_and_counted(tmp_path):
    lines = [b"text,n", b"good,1", b"\xff,2", b'"bad" quote,3', b",4", b"a\0b,5", b"", b"too,6,7"]
    (tmp_path / "x.csv").write_bytes(b"\r\n".join([*lines, b'"cut off']))
    documents, counts = read(f"csv:{tmp_path}")
    assert [(d.id, d.text) for d in documents] == [("x.csv/0", "good"), ("x.csv/5", "too")]
    assert counts == {
        "documents": 2,
        "skipped: not UTF-8": 1,
        "skipped: not CSV": 2,
        "skipped: empty": 1,
        "skipped: binary (NUL bytes)": 1,
    }
    assert read(f"csv:{tmp_path}", field="words")[1]["skipped: no text in field 'words'"] == 4


def test_a_filter_and_a_long_text(tmp_path):
    long = "word " * 100_000  # beyond the csv module's own limit
    assert csv.field_size_limit() < len(long) < MAX_BYTES or csv.field_size_limit() == MAX_BYTES
    (tmp_path / "x.csv").write_bytes(as_csv([["set", "text"], ["a", long], ["b", "short"]]))
    documents, counts = read(f"csv:{tmp_path}?set=a")
    assert [d.text for d in documents] == [long]
    assert counts == {"documents": 1, "left out: set is not a": 1}


def test_errors_and_names(tmp_path):
    with pytest.raises(UserError, match="no file ending in .csv"):
        read(f"csv:{tmp_path}")
    path = tmp_path / "Our Notes.csv.gz"
    path.write_bytes(gzip.compress(as_csv([["text"], ["t" * 50_000]]))[:-9])
    assert resolve_source(str(path)) == ("our-notes", f"csv:{path}")
    with pytest.raises(UserError, match="cannot be read to its end"):
        read(f"csv:{path}")
    with pytest.raises(UserError, match="unknown scheme 'cvs'; use .*csv:PATH"):
        read("cvs:x")


def test_rows_are_read_one_by_one(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(as_csv([["text"], ["first"], ["second"]]) + b'"never closed')
    documents = open_source(f"csv:{path}").documents(collections.Counter())
    assert next(documents).text == "first"
