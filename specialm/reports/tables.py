"""Tables as data, and how the page shows them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specialm.reports.markup import clean

DASH = "–"


class Best(str):
    """The text of a cell that stands out."""


@dataclass(frozen=True)
class Table:
    """Texts in rows; a row of one text is the heading of the rows that follow."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def table_of(title: str, note: str, header: Sequence[str], rows: list) -> Table | None:
    """The table; None without rows or without columns after the rows' names."""
    return Table(title, note, list(header), rows) if rows and len(header) > 1 else None


def or_dash(value, show: Callable) -> str:
    """The value as `show` writes it, a dash for None."""
    return DASH if value is None else show(value)


def html(table: Table) -> str:
    """The table for the page, its title and note before it."""
    head = "".join(f"<th>{clean(text)}</th>" for text in table.header)
    body = "".join(_row(row, len(table.header)) for row in table.rows)
    return (
        f'<h3>{clean(table.title)}</h3><p class="note">{clean(table.note)}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: list[str], columns: int) -> str:
    name, *texts = row
    if not texts:
        return f'<tr class="phase"><th colspan="{columns}">{clean(name)}</th></tr>'
    cells = "".join(f"<td>{_cell(text)}</td>" for text in texts)
    return f'<tr><th scope="row">{clean(name)}</th>{cells}</tr>'


def _cell(text: str) -> str:
    mean, plus_minus, sd = text.partition(" ± ")
    mean = f"<b>{clean(mean)}</b>" if isinstance(text, Best) else clean(mean)
    return f'{mean} <span class="sd">± {clean(sd)}</span>' if plus_minus else mean
