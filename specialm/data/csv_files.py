"""CSV files: the names of the columns in the first row, fields apart by commas (RFC 4180)."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.documents import MARK, NOT_UTF8, TOO_LARGE, Skipped, is_utf8
from specialm.data.packed_files import read_lines
from specialm.data.rows import Parse, RowFormat


class _Lines:
    """The lines of a file; bytes that are not UTF-8 become surrogates, which the rows are searched
    for.

    Not a generator: that would be over once it has raised.
    """

    def __init__(self, path: Path, limit: int):
        self._lines = read_lines(path, limit)
        self._first = True

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if line is None:
            raise Skipped(TOO_LARGE)
        text = line.decode("utf-8", "surrogateescape")
        first, self._first = self._first, False
        return text.removeprefix(MARK) if first else text


def _records(path: Path, columns: tuple[str, ...], limit: int) -> Iterator[tuple[int, Parse]]:
    rows = _rows(path, limit)
    header = next(rows, [])
    if isinstance(header, Exception):
        raise UserError(
            f"{path}: the first row, which names the columns, cannot be read ({header})."
        )
    for number, row in enumerate(rows):
        yield number, partial(_parse, header, row)


def _rows(path: Path, limit: int) -> Iterator[list[str] | Exception]:
    """Yield each row that is not empty, or what is wrong with it."""
    csv.field_size_limit(limit)  # the module's own limit is 128 kB
    rows = csv.reader(_Lines(path, limit), strict=True)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, Skipped) as error:  # the reader goes on with the next line
            yield error
        else:
            if row:
                yield row


def _parse(header: list[str], row: list[str] | Exception) -> dict[str, str]:
    if isinstance(row, Skipped):
        raise row
    if isinstance(row, Exception):
        large = "field larger than field limit" in str(row)
        raise Skipped(TOO_LARGE if large else "skipped: not CSV")
    if not is_utf8("".join(row)):
        raise Skipped(NOT_UTF8)
    return dict(zip(header, row, strict=False))


CSV = RowFormat((".csv", ".csv.gz", ".csv.zst"), "row", _records)
