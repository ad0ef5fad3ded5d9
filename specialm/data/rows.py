"""Files of rows as sources: a document for each row, filters on a field.

A format is a `RowFormat` in a file of its own and one line in `sources.SOURCES`.
"""

import collections
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.data.documents import Document, Skipped, Source, checked, file_source, read_record
from specialm.data.field_values import Filter, lookup, matches, name_of, parse_filter
from specialm.data.file_tree import find_files, relative_name
from specialm.data.packed_files import damaged

Parse = Callable[[], Any]  # returns a row, or raises: `Skipped` with a reason, or anything
# (file, columns, limit in bytes of one row) -> (number, parse) of each row, in order. The first of
# the columns holds the text; a format that stores columns need not read any others.
Records = Callable[[Path, tuple[str, ...], int], Iterator[tuple[int, Parse]]]


@dataclass(frozen=True)
class RowFormat:
    """Files whose names end so, what a row is called, and the function that finds the rows."""

    endings: tuple[str, ...]
    unit: str
    records: Records


@dataclass(frozen=True)
class Reading:
    """How the rows below `root` are read.

    Attributes:
      root: the source's folder or file.
      field: that holds the text.
      wanted: what the rows must have in another field.
      formats: those of the files; a name without any of their endings is read by the first.
      limit: bytes of a row and of a text, at most.

    """

    root: Path
    field: str
    wanted: Filter | None
    formats: tuple[RowFormat, ...]
    limit: int

    def documents(self, files: tuple[Path, ...], counts: collections.Counter) -> Iterator[Document]:
        """Yield a document for each row with a text that the filter lets pass."""
        for path in files:
            name, row_format = relative_name(self.root, path), self._format(path)
            for number, parse in self._records(path, row_format):
                make = partial(self._document, f"{name}/{number}", parse)
                place = f"{name}, {row_format.unit} {number + 1}"
                yield from read_record(make, place, counts)

    def _format(self, path: Path) -> RowFormat:
        return next((f for f in self.formats if path.name.endswith(f.endings)), self.formats[0])

    def _records(self, path: Path, row_format: RowFormat) -> Iterator[tuple[int, Parse]]:
        columns = (self.field, "id", "group", RANK, *([self.wanted[0]] if self.wanted else []))
        try:
            yield from row_format.records(path, tuple(dict.fromkeys(columns)), self.limit)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # the file as a whole
            raise damaged(path, error) from error

    def _document(self, position: str, parse: Parse) -> Document:
        row = parse()
        if not isinstance(row, dict):
            raise Skipped(f"skipped: no text in field {self.field!r}")
        if self.wanted and not matches(lookup(row, self.wanted[0]), self.wanted[1]):
            raise Skipped("left out: {} is not {}".format(*self.wanted))
        text = lookup(row, self.field)
        if text is None:
            raise Skipped(f"skipped: no text in field {self.field!r}")
        if not isinstance(text, str):
            raise Skipped(f"skipped: field {self.field!r} is no text but {type(text).__name__}")
        given = name_of(row.get("id"))
        name = position if given is None else f"{position}:{given[:NAME]}"
        group = name_of(row.get("group")) or given or position
        return replace(checked(name, text, group, self.limit), split_rank=_rank(row.get(RANK)))


def _rank(value: Any) -> float | None:
    """The `split_rank` of a row.

    Raises:
      Skipped: it is none.
    """
    if name_of(value) is None:
        return None
    try:
        rank = float(value)
    except (TypeError, ValueError):
        rank = -1.0
    if not 0 <= rank < 1:
        raise Skipped(f"skipped: field {RANK!r} is no number from 0 to 1")
    return rank


RANK = "split_rank"  # the field of `Document.split_rank`
NAME = 200  # characters of a given id that a document's name has


def open_rows(spec: str, path: str, field: str, row_format: RowFormat, limit: int) -> Source:
    """Return the source of `PATH[?FIELD=VALUE]`, a file or a folder of files of one format.

    Raises:
      UserError: no such path, or no file of the format below it.

    """
    path, wanted = parse_filter(path)
    found = find_files(spec, path, row_format.endings)
    reading = Reading(found.root, field, wanted, (row_format,), limit)
    return file_source(spec, found.files, reading.documents, found.left_out)
