"""Parquet files, read in small batches of rows."""

import functools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.data.documents import NOT_UTF8, TOO_LARGE, Skipped
from specialm.data.rows import Parse, RowFormat

ROWS = 64  # that are turned into Python at a time
BATCH_BYTES = 1 << 24  # of a batch, if its row group's rows are of equal size
BUFFER = 1 << 20  # packed bytes of a column that are read at a time


def _records(path: Path, columns: tuple[str, ...], limit: int) -> Iterator[tuple[int, Parse]]:
    """Yield the rows of a file in order, some pages of a row group in memory at a time.

    Args:
      path: of the file.
      columns: what to read, of fields of fields the outer one; the first has to be there.
      limit: bytes of a text; a longer one is not turned into Python.

    Raises:
      UserError: pyarrow is missing, the first column is, or the file cannot be read to its end.

    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow.") from error
    number = 0
    try:
        # Without `pre_buffer` a column is read in pieces, not a whole row group at once.
        with parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            wanted = _present(path, columns, file.schema_arrow.names)
            rows = rows_at_a_time(file.metadata)
            for batch in file.iter_batches(rows, columns=wanted, use_threads=False):
                for row in range(len(batch)):
                    yield number, partial(_parse, batch, row, limit)
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read to its end ({error}); fetch it again.") from error


def rows_at_a_time(metadata) -> int:
    """Return how many rows a batch has: fewer if they are large."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    size = max((g.total_byte_size / max(g.num_rows, 1) for g in groups), default=0)
    return int(min(ROWS, max(1, BATCH_BYTES / max(size, 1))))


def _present(path: Path, columns: tuple[str, ...], names: list[str]) -> list[str]:
    wanted = [name if name in names else name.split(".")[0] for name in columns]
    if wanted[0] not in names:
        raise UserError(f"data.field={columns[0]!r}: {path} has the columns {names}.")
    return [name for name in dict.fromkeys(wanted) if name in names]


def _parse(batch, row: int, limit: int) -> dict[str, Any]:
    try:
        return {
            name: plain(column[row], limit)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
    except UnicodeDecodeError as error:
        raise Skipped(NOT_UTF8) from error


def plain(scalar, limit: int) -> Any:
    """Return an Arrow scalar as a Python value; UTF-8 in a binary column is text.

    Times in nanoseconds, which Python has no type for, are text.

    Raises:
      Skipped: a text of more than `limit` bytes.

    """
    if not scalar.is_valid:
        return None
    for applies, convert in _conversions():
        if applies(scalar.type):
            return convert(scalar, limit)
    return scalar.as_py()


@functools.cache
def _conversions() -> list[tuple[Callable, Callable]]:
    """Return (whether it is for a type, conversion) pairs, the first of which counts."""
    import numpy
    from pyarrow import types

    strings = (types.is_string, types.is_large_string, types.is_string_view)
    binaries = (
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_fixed_size_binary,
    )
    return [
        (lambda of: any(is_type(of) for is_type in strings), _text),
        (lambda of: any(is_type(of) for is_type in binaries), _bytes),
        (types.is_temporal, _time),
        (types.is_float32, lambda scalar, limit: float(str(numpy.float32(scalar.as_py())))),
        (types.is_struct, lambda scalar, limit: {k: plain(v, limit) for k, v in scalar.items()}),
        (types.is_nested, lambda scalar, limit: [plain(v, limit) for v in scalar.values]),
        (types.is_dictionary, lambda scalar, limit: plain(scalar.value, limit)),
    ]


def _text(scalar, limit: int) -> str:
    content = scalar.as_buffer()
    if content.size > limit:
        raise Skipped(TOO_LARGE)
    return content.to_pybytes().decode("utf-8")


def _bytes(scalar, limit: int) -> str | bytes:
    try:
        return _text(scalar, limit)
    except UnicodeDecodeError:
        return scalar.as_py()


def _time(scalar, limit: int) -> Any:
    import pyarrow

    of = scalar.type
    if getattr(of, "unit", "") == "ns" and scalar.value % 1000 == 0:
        scalar = pyarrow.scalar(scalar.value // 1000, _in_microseconds(of))
    elif getattr(of, "unit", "") == "ns":
        return str(scalar.cast(pyarrow.string()))
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):  # Python has no such date
        return str(scalar.value)


def _in_microseconds(of):
    import pyarrow
    from pyarrow import types

    if types.is_timestamp(of):
        return pyarrow.timestamp("us", of.tz)
    return pyarrow.duration("us") if types.is_duration(of) else pyarrow.time64("us")


PARQUET = RowFormat((".parquet",), "row", _records)
