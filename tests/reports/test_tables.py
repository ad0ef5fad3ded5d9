"""Tables as CSV and LaTeX, read back and held against the table."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.reports import tables
from specialm.reports.tables import Best, Table

TABLE = Table(
    "Perplexity & more",
    "Lower is better: 50% of #1.",
    ["", "a_b", "macro", "steps"],
    [
        ["4M tokens"],
        ["SLM", "75.33 ± 0.30", "1,234", "33 of 131"],
        ["SLM-is", Best("67.92 ± 0.11"), "−16.6%", "–"],
        ["16M tokens"],
        ["SLM", "63.57", "12", "1"],
    ],
)


def test_csv_has_groups_deviations_and_plain_numbers():
    rows = list(csv.reader(io.StringIO(tables.to_csv(TABLE))))
    assert rows == [
        ["group", "name", "a_b", "a_b, sd", "macro", "steps"],
        ["4M tokens", "SLM", "75.33", "0.30", "1234", "33 of 131"],
        ["4M tokens", "SLM-is", "67.92", "0.11", "-16.6%", ""],
        ["16M tokens", "SLM", "63.57", "", "12", "1"],
    ]


def test_csv_without_groups_and_deviations_is_the_table():
    table = Table("t", "", ["Set", "Tokens"], [["a", "1"], ["b, c", '"2"']])
    found = list(csv.reader(io.StringIO(tables.to_csv(table))))
    assert found == [table.header, *table.rows]


def test_latex_is_a_booktabs_table():
    text = tables.to_latex(TABLE, "main")
    assert r"\caption{Perplexity \& more. Lower is better: 50\% of \#1.}" in text
    assert r"\label{tab:main}" in text and r"\begin{tabular}{lrrr}" in text
    assert r" & a\_b & macro & steps \\" in text
    assert r"\multicolumn{4}{l}{\textit{4M tokens}} \\" in text
    assert r"SLM-is & \textbf{67.92} $\pm$ 0.11 & $-$16.6\% & -- \\" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    assert text.count(r"\midrule") == 2
    body = text[text.index(r"\toprule") :].splitlines()
    rows = [line for line in body if line.endswith(r"\\") and "multicolumn" not in line]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [3] * 4


@given(st.text())
def test_no_text_breaks_out_of_latex(text):
    found = tables.latex(text)
    for known in sorted({*tables.LATEX.values()}, key=len, reverse=True):
        found = found.replace(known, "")
    assert not set(found) & set("\\&%$#_{}~^\n")


@given(st.lists(st.lists(st.text(max_size=8), min_size=3, max_size=3), min_size=1, max_size=4))
def test_csv_can_be_read_back(rows):
    table = Table("t", "", ["", "b", "c"], rows)
    found = list(csv.reader(io.StringIO(tables.to_csv(table))))
    assert len(found) == 1 + len(rows) and len({len(row) for row in found}) == 1


def test_facts_leave_out_columns_without_any():
    columns = (("a", "A", str), ("b", "B", str), ("c", "C", str))
    table = tables.facts("t", "", "Name", columns, [("x", {"a": 1, "c": "text"}), ("y", {})])
    assert table.header == ["Name", "A", "C"]
    assert table.rows == [["x", "1", "text"], ["y", "–", "–"]]
    assert table.left == {0, 2}


@pytest.mark.parametrize("rows,header", [([], ["", "a"]), ([["x"]], [""])])
def test_a_table_of_nothing_is_none(rows, header):
    assert tables.table_of("t", "", header, rows) is None
