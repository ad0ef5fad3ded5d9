"""What rows of every format become: ids, groups, filters, marks, and what cannot be parsed."""

import collections
import datetime
import decimal
import json
import math

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from specialm.common.errors import UserError
from specialm.data.documents import Counts
from specialm.data.field_values import lookup, matches, name_of, parse_filter, text_of
from specialm.data.rows import RowFormat, open_rows
from specialm.data.sources import open_source

NS = pyarrow.timestamp("ns")


def read(spec, **settings):
    counts = Counts()
    return list(open_source(spec, **settings).documents(counts)), counts


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("nothing", ["", "  ", None, float("nan"), "NaN", "NaT"])
def test_an_id_that_names_nothing_is_none(tmp_path, nothing):
    path = write_lines(
        tmp_path / "x.jsonl",
        [{"id": nothing, "group": nothing, "text": f"text {i}"} for i in range(60)],
    )
    documents, _ = read(f"jsonl:{path}")
    assert len({d.group for d in documents}) == len({d.id for d in documents}) == 60


def test_a_missing_group_is_the_id_and_a_missing_id_the_place(tmp_path):
    rows = [{"id": 7}, {"id": 7}, {"group": 0}, {"id": True, "group": {"b": 1, "a": None}}, {}]
    path = write_lines(tmp_path / "x.jsonl", [{**row, "text": "t"} for row in rows])
    documents, _ = read(f"jsonl:{path}")
    assert [(d.id, d.group) for d in documents] == [
        ("x.jsonl/0:7", "7"),
        ("x.jsonl/1:7", "7"),
        ("x.jsonl/2", "0"),
        ("x.jsonl/3:true", '{"a":null,"b":1}'),
        ("x.jsonl/4", "x.jsonl/4"),
    ]


def test_ids_are_unique_over_files_of_one_name(tmp_path):
    for folder in "ab":
        write_lines(tmp_path / folder / "x.jsonl", [{"text": "t"}, {"text": "t", "id": "1"}])
    documents, _ = read(f"jsonl:{tmp_path}")
    assert [d.id for d in documents] == [
        "a/x.jsonl/0",
        "a/x.jsonl/1:1",
        "b/x.jsonl/0",
        "b/x.jsonl/1:1",
    ]
    assert documents[0].group != documents[2].group


def test_a_mark_is_not_text_wherever_it_stands(tmp_path):
    row = json.dumps({"text": "\ufeffwords\ufeff"}, ensure_ascii=False)
    (tmp_path / "x.jsonl").write_text(f"\ufeff{row}\n\ufeff{row}\n\ufeff\n", encoding="utf-8")
    (tmp_path / "y.csv").write_text("\ufefftext\nwords\n", encoding="utf-8")
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "z.txt").write_text("\ufeffwords", encoding="utf-8")
    assert [d.text for d in read(f"jsonl:{tmp_path}")[0]] == ["words\ufeff"] * 2
    assert read(f"jsonl:{tmp_path}")[1] == {"documents": 2}
    assert [d.text for d in read(f"csv:{tmp_path}")[0]] == ["words"]
    assert [d.text for d in read(f"folder:{tmp_path / 'z'}")[0]] == ["words"]


def test_what_json_cannot_be_is_skipped_with_its_place(tmp_path):
    bad = [
        '{"text": "big", "id": ' + "9" * 5000 + "}",
        '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"text": "\\ud800"}',
        '["a list"]',
        '{"text": ["a", "list"]}',
        '{"text": 5}',
        "{",
    ]
    lines = [line for text in bad for line in (text, '{"text": "good"}')]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    documents, counts = read(f"jsonl:{tmp_path}")
    assert [d.id for d in documents] == [f"x.jsonl/{i}" for i in range(1, 14, 2)]
    assert counts == {
        "documents": 7,
        "skipped: cannot be parsed (ValueError)": 1,
        "skipped: cannot be parsed (RecursionError)": 1,
        "skipped: not UTF-8": 1,
        "skipped: no text in field 'text'": 1,
        "skipped: field 'text' is no text but list": 1,
        "skipped: field 'text' is no text but int": 1,
        "skipped: not JSON": 1,
    }
    assert counts.examples["skipped: not JSON"] == ["x.jsonl, line 13"]


def test_only_the_first_places_are_remembered(tmp_path):
    (tmp_path / "x.jsonl").write_text("{\n" * 50 + '{"text": "good"}')
    counts = read(f"jsonl:{tmp_path}")[1]
    assert counts["skipped: not JSON"] == 50
    assert counts.examples == {"skipped: not JSON": [f"x.jsonl, line {i}" for i in (1, 2, 3)]}


class Foreign(Exception):
    pass


@pytest.mark.parametrize("raised", [Foreign, KeyError, AssertionError, StopIteration])
def test_whatever_a_parser_raises_skips_the_record_alone(tmp_path, raised):
    def parse(number):
        if number == 1:
            raise raised("no")
        return {"text": f"t{number}"}

    def records(path, columns, limit):
        yield from ((i, lambda i=i: parse(i)) for i in range(3))

    (tmp_path / "x.y").write_text("")
    counts = Counts()
    source = open_rows("s", str(tmp_path), "text", RowFormat((".y",), "row", records), 99)
    assert [d.text for d in source.documents(counts)] == ["t0", "t2"]
    assert counts == {"documents": 2, f"skipped: cannot be parsed ({raised.__name__})": 1}


def test_running_out_of_memory_skips_nothing(tmp_path):
    def parse():
        raise MemoryError

    def records(path, columns, limit):
        yield 0, parse

    (tmp_path / "x.y").write_text("")
    source = open_rows("s", str(tmp_path), "text", RowFormat((".y",), "row", records), 99)
    with pytest.raises(MemoryError):
        list(source.documents(Counts()))


def test_a_file_that_fails_as_a_whole_is_an_error_that_names_it(tmp_path):
    def records(path, columns, limit):
        yield 0, lambda: {"text": "t"}
        raise Foreign("half of it")

    (tmp_path / "x.y").write_text("")
    source = open_rows("s", str(tmp_path), "text", RowFormat((".y",), "row", records), 99)
    with pytest.raises(UserError, match=r"x\.y: cannot be read to its end \(half of it\)"):
        list(source.documents(Counts()))


FILTERS = [
    (True, "true", "false"),
    (False, "False", "true"),
    (None, "null", ""),
    ("", "", "null"),
    ("true", "true", "1"),
    (3, "3", "4"),
    (3, "3.0", "true"),
    (2.5, "2.50", "2.4"),
    (0.1, "1e-1", "0.11"),
    (1e300, "1e300", "1e301"),
    (10**400, "1" + "0" * 400, "1"),
    ("2021-01-02", "2021-01-02", "2021"),
    ([1, "a"], '[1, "a"]', "[1]"),
    ({"b": 1, "a": [None]}, '{"a": [null], "b": 1}', "{}"),
    ("a=b?c", "a=b?c", "a"),
]


@pytest.mark.parametrize(("value", "wanted", "other"), FILTERS, ids=range(len(FILTERS)))
def test_a_filter_on_a_value_of_every_type_of_json(tmp_path, value, wanted, other):
    path = write_lines(
        tmp_path / "x.jsonl",
        [
            {"text": "yes", "k": value},
            {"text": "no", "k": "else"},
            {"text": "deep", "a": {"k": value}},
        ],
    )
    missing = ["deep"] if value is None else []  # a field that is not there is null
    assert [d.text for d in read(f"jsonl:{path}?k={wanted}")[0]] == ["yes", *missing]
    assert "yes" not in [d.text for d in read(f"jsonl:{path}?k={other}")[0]]
    if value is not None:
        assert [d.text for d in read(f"jsonl:{path}?a.k={wanted}")[0]] == ["deep"]


@pytest.mark.parametrize(
    ("arrow_type", "value", "text"),
    [
        (pyarrow.bool_(), True, "true"),
        (pyarrow.int8(), -3, "-3"),
        (pyarrow.uint64(), 2**64 - 1, str(2**64 - 1)),
        (pyarrow.float32(), 0.1, "0.1"),
        (pyarrow.decimal128(10, 2), decimal.Decimal("1.50"), "1.50"),
        (pyarrow.string(), "é", "é"),
        (pyarrow.large_string(), "é", "é"),
        (pyarrow.binary(), "é".encode(), "é"),
        (pyarrow.binary(), b"\xff", "\\xff"),
        (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "d", "d"),
        (pyarrow.date32(), datetime.date(2021, 1, 2), "2021-01-02"),
        (pyarrow.timestamp("s"), datetime.datetime(2021, 1, 2), "2021-01-02 00:00:00"),
        (pyarrow.timestamp("us"), 1_609_459_200_000_001, "2021-01-01 00:00:00.000001"),
        (NS, 1_609_459_200_000_000_000, "2021-01-01 00:00:00"),
        (NS, 1_609_459_200_000_000_001, "2021-01-01 00:00:00.000000001"),
        (pyarrow.timestamp("ns", "UTC"), 1_609_459_200_000_000_000, "2021-01-01 00:00:00+00:00"),
        (pyarrow.timestamp("s"), 10**12, "1000000000000000"),
        (pyarrow.time64("ns"), 1001, "00:00:00.000001001"),
        (pyarrow.time64("ns"), 1000, "00:00:00.000001"),
        (pyarrow.duration("ns"), 1000, "0:00:00.000001"),
        (pyarrow.list_(pyarrow.int32()), [1, 2], "[1,2]"),
        (pyarrow.struct({"t": NS, "n": pyarrow.int8()}), {"t": 1, "n": 2}, None),
        (pyarrow.map_(pyarrow.string(), pyarrow.int8()), [("a", 1)], None),
    ],
    ids=str,
)
def test_a_parquet_column_of_every_type_is_an_id_a_group_and_a_filter(
    tmp_path, arrow_type, value, text
):
    column = pyarrow.array([value, None], arrow_type)
    table = pyarrow.table({"text": ["one", "two"], "id": column, "group": column, "k": column})
    parquet.write_table(table, tmp_path / "x.parquet")
    documents, counts = read(f"parquet:{tmp_path}")
    assert counts == {"documents": 2}
    assert documents[1].group == documents[1].id == "x.parquet/1"
    if text is not None:
        assert documents[0].group == text and documents[0].id == f"x.parquet/0:{text}"
    chosen, _ = read(f"parquet:{tmp_path}?k={documents[0].group}")
    assert [d.text for d in chosen] == ["one"]
    assert [d.text for d in read(f"parquet:{tmp_path}?k=null")[0]] == ["two"]


def test_a_time_matches_with_a_space_or_a_t(tmp_path):
    column = pyarrow.array([datetime.datetime(2021, 1, 2, 3)], pyarrow.timestamp("us"))
    parquet.write_table(pyarrow.table({"text": ["one"], "k": column}), tmp_path / "x.parquet")
    for text in ("2021-01-02 03:00:00", "2021-01-02T03:00:00"):
        assert len(read(f"parquet:{tmp_path}?k={text}")[0]) == 1


def test_parquet_text_in_bytes_and_large_strings(tmp_path):
    for number, of in enumerate((pyarrow.binary(), pyarrow.large_string(), pyarrow.large_binary())):
        column = pyarrow.array(["wörds"], of)
        parquet.write_table(pyarrow.table({"text": column}), tmp_path / f"{number}.parquet")
    assert [d.text for d in read(f"parquet:{tmp_path}")[0]] == ["wörds"] * 3


def test_text_in_a_field_of_a_field(tmp_path):
    rows = [{"content": {"body": "deep"}}, {"content.body": "flat"}, {"content": "none"}]
    write_lines(tmp_path / "x.jsonl", rows)
    assert [d.text for d in read(f"jsonl:{tmp_path}", field="content.body")[0]] == ["deep", "flat"]
    parquet.write_table(pyarrow.Table.from_pylist(rows[:1]), tmp_path / "x.parquet")
    assert [d.text for d in read(f"parquet:{tmp_path}", field="content.body")[0]] == ["deep"]


def test_a_path_with_a_question_mark_that_is_there(tmp_path):
    path = write_lines(tmp_path / "what?k=1.jsonl", [{"text": "t"}])
    assert parse_filter(str(path)) == (str(path), None)
    assert len(read(f"jsonl:{path}")[0]) == 1
    assert parse_filter("x?my field=a?b=c") == ("x", ("my field", "a?b=c"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_every_value_matches_its_own_text(value):
    text = "null" if value is None else text_of(value)
    if isinstance(value, float) and math.isnan(value):
        assert name_of(value) is None
    assert matches(value, text)
    assert lookup({"a.b": value, "a": {"b": 1}}, "a.b") is value


@given(JSON, st.text())
def test_no_value_and_no_filter_raises(value, wanted):
    assert isinstance(matches(value, wanted), bool)
    assert name_of(value) is None or name_of(value).strip()


def test_counts_are_those_of_a_plain_counter(tmp_path):
    write_lines(tmp_path / "x.jsonl", [{"text": "t"}, {}, {"text": " "}])
    plain = collections.Counter()
    list(open_source(f"jsonl:{tmp_path}").documents(plain))
    assert plain == read(f"jsonl:{tmp_path}")[1]
