"""Files of rows as sources: a document for each row, filters on a field.

A format is a `RowFormat` in a file of its own and one line in `sources.SOURCES`.
"""

import collections
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from specialm.data.documents import Document, Source, checked, file_source
from specialm.data.text_files import find_files

Filter = tuple[str, str] | None  # a field and the value that it must have
# (file, columns, counts) -> (number, row) of each row that can be read; others are counted. The
# first of the columns holds the text; a format that stores columns need not read any others.
ReadRows = Callable[[Path, tuple[str, ...], collections.Counter], Iterator[tuple[int, Any]]]


@dataclass(frozen=True)
class RowFormat:
    """Files whose names end so, and the function that reads the rows of one."""

    endings: tuple[str, ...]
    read: ReadRows


def open_rows(spec: str, path: str, field: str, row_format: RowFormat) -> Source:
    """Return the source of `PATH[?FIELD=VALUE]`, a file or a folder of files of one format.

    Raises:
      UserError: no such path, or no file of the format below it.

    """
    path, wanted = parse_filter(path)
    files = find_files(spec, path, row_format.endings)
    return file_source(spec, files, partial(read_documents, field, wanted, (row_format,)))


def read_documents(
    field: str,
    wanted: Filter,
    formats: tuple[RowFormat, ...],
    files: tuple[Path, ...],
    counts: collections.Counter,
) -> Iterator[Document]:
    """Yield a document for each row with a text in `field` that the filter lets pass.

    Args:
      formats: those of the files; a name without any of their endings is read by the first.

    """
    columns = (field, "id", "group", *([wanted[0].split(".")[0]] if wanted else []))
    for path in files:
        read = next((f for f in formats if path.name.endswith(f.endings)), formats[0]).read
        for number, row in read(path, tuple(dict.fromkeys(columns)), counts):
            if wanted and isinstance(row, dict) and str(nested(row, wanted[0])) != wanted[1]:
                counts["left out: {} is not {}".format(*wanted)] += 1
                continue
            if not isinstance(row, dict) or not isinstance(row.get(field), str):
                counts[f"skipped: no text in field {field!r}"] += 1
                continue
            name = str(_or_default(row.get("id"), f"{path.name}/{number}"))
            group = str(_or_default(row.get("group"), name))
            yield from checked(name, row[field], group, counts)


def _or_default(value, default):
    return default if value is None else value


def parse_filter(path: str) -> tuple[str, Filter]:
    """Return ("PATH", ("meta.set", "ArXiv")) of "PATH?meta.set=ArXiv", else (path, None)."""
    match = re.fullmatch(r"(.*)\?([\w.-]+)=(.*)", path)
    return (match[1], (match[2], match[3])) if match else (path, None)


def nested(row: dict, name: str) -> Any:
    """Return the value of a field of fields, as in `meta.set`; None if it is not there."""
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
