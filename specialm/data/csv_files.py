"""CSV files: the names of the columns in the first row, fields apart by commas (RFC 4180)."""

import collections
import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specialm.data.documents import NOT_UTF8, is_utf8
from specialm.data.rows import RowFormat
from specialm.data.text_files import read_lines

FIELD_BYTES = 1 << 30  # of one field at most; the csv module's own limit is 128 kB


def _read(
    path: Path, columns: tuple[str, ...], counts: collections.Counter
) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(FIELD_BYTES)
    rows = csv.DictReader(_decoded(path), strict=True)
    for number in itertools.count():
        try:
            row = next(rows, None)
        except csv.Error:  # the reader goes on with the next line
            counts["skipped: not CSV"] += 1
            continue
        if row is None:
            return
        if is_utf8("".join(cell for cell in row.values() if isinstance(cell, str))):
            yield number, _without_empty_names(row)
        else:
            counts[NOT_UTF8] += 1


def _decoded(path: Path) -> Iterator[str]:
    """Yield the lines; bytes that are not UTF-8 become surrogates, which are found in the rows."""
    for number, line in enumerate(read_lines(path)):
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix("\ufeff") if number == 0 else text  # a byte order mark


def _without_empty_names(row: dict) -> dict:
    """Drop an empty `id` or `group`: it names nothing."""
    return {name: cell for name, cell in row.items() if cell or name not in ("id", "group")}


CSV = RowFormat((".csv", ".csv.gz", ".csv.zst"), _read)
