"""Tables as data, and as CSV and LaTeX; pages show them by templates/macros.html.j2."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from specialm.reports.words import printable

DASH = "–"
PLUS_MINUS = " ± "
LATEX = {
    "\\": r"\textbackslash{}",
    **{c: "\\" + c for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "–": "--",
    "…": r"\dots{}",
    "\n": " ",
}


class Best(str):
    """The text of a cell that stands out."""


class Share(str):
    """The text of a cell with a bar beside it, as long as `share` of the longest."""

    share: float

    def __new__(cls, text: str, share: float) -> "Share":
        """The text and its share, 0 to 1."""
        cell = super().__new__(cls, text)
        cell.share = share
        return cell


@dataclass(frozen=True)
class Table:
    """Texts in rows; a row of one text is the heading of the rows that follow.

    Attributes:
      title: the caption.
      note: how to read it.
      header: of the columns, the rows' names first.
      rows: as long as the header, or of one text.
      left: columns of text, by number; the others are numbers.
      folded: shown only to who asks.
    """

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]
    left: frozenset[int] = frozenset({0})
    folded: bool = False

    @property
    def groups(self) -> list[tuple[str, list[list[str]]]]:
        """[(heading, rows)]; rows before the first heading stand under ""."""
        found: list[tuple[str, list[list[str]]]] = []
        for row in self.rows:
            if len(row) == 1:
                found.append((row[0], []))
            else:
                if not found:
                    found.append(("", []))
                found[-1][1].append(row)
        return found


def table_of(title: str, note: str, header: Sequence[str], rows: list, **options) -> Table | None:
    """The table; None without rows or without columns after the rows' names."""
    return Table(title, note, list(header), rows, **options) if rows and len(header) > 1 else None


def facts(
    title: str,
    note: str,
    corner: str,
    columns: Iterable[tuple[str, str, Callable]],
    rows,
    **options,
) -> Table | None:
    """A table of facts; columns without any are left out.

    Args:
      title, note: of the table.
      corner: heading of the names.
      columns: (key, title, function that writes a value).
      rows: (name, dict).
      **options: more fields of `Table`.
    """
    shown = [c for c in columns if any(found.get(c[0]) is not None for _, found in rows)]
    lines = [
        [name, *(or_dash(found.get(key), show) for key, _, show in shown)] for name, found in rows
    ]
    left = {0} | {
        i
        for i, (key, *_) in enumerate(shown, 1)
        if any(isinstance(found.get(key), str) for _, found in rows)
    }
    header = [corner, *(name for _, name, _ in shown)]
    return table_of(title, note, header, lines, left=frozenset(left), **options)


def or_dash(value: Any, show: Callable) -> str:
    """The value as `show` writes it, a dash for None."""
    return DASH if value is None else show(value)


def split(text: str) -> tuple[str, str]:
    """(mean, standard deviation) of `12.3 ± 0.4`; the latter may be ""."""
    mean, _, sd = text.partition(PLUS_MINUS)
    return mean, sd


def to_csv(table: Table) -> str:
    """Comma-separated values: a column for the headings of groups, one for each deviation."""
    names = [name or ("name" if j == 0 else str(j)) for j, name in enumerate(table.header)]
    deviating = [
        any(PLUS_MINUS in row[j] for row in table.rows if len(row) > 1) for j in range(len(names))
    ]
    grouped = any(heading for heading, _ in table.groups)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")

    def write(group: str, pairs: Sequence[tuple[str, str]]) -> None:
        cells = [
            text
            for pair, both in zip(pairs, deviating, strict=True)
            for text in (pair if both else pair[:1])
        ]
        writer.writerow(map(_csv_text, [group, *cells] if grouped else cells))

    write("group", [(name, f"{name}, sd") for name in names])
    for heading, members in table.groups:
        for row in members:
            write(heading, [split(cell) for cell in row])
    return stream.getvalue()


def _csv_text(text: str) -> str:
    """A number as programs read it; any other text as it is, a dash as nothing."""
    plain = printable(str(text)).replace("−", "-")
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?%?", plain):
        plain = plain.replace(",", "")
    return "" if plain == DASH else plain


def to_latex(table: Table, name: str) -> str:
    r"""A `table` environment for the package booktabs, labelled `tab:NAME`."""
    columns = "".join("l" if j in table.left else "r" for j in range(len(table.header)))
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(f'{table.title}. {table.note}'.strip())}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(table.header),
    ]
    for heading, members in table.groups:
        lines.append(r"\midrule")
        if heading:
            lines.append(
                rf"\multicolumn{{{len(table.header)}}}{{l}}{{\textit{{{latex(heading)}}}}} \\"
            )
        lines += [_latex_row(row) for row in members]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_cell, cells)) + r" \\"


def _latex_cell(cell: str) -> str:
    mean, sd = split(cell)
    shown = rf"\textbf{{{latex(mean)}}}" if isinstance(cell, Best) else latex(mean)
    return rf"{shown} $\pm$ {latex(sd)}" if sd else shown


def latex(text: str) -> str:
    """The text with LaTeX's special letters escaped."""
    return "".join(LATEX.get(c, c) for c in printable(str(text)))
