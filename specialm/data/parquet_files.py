"""Parquet files, read in small batches of rows."""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.data.documents import NOT_UTF8
from specialm.data.rows import RowFormat

ROWS = 64  # that are turned into Python at a time


def parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict | None]:
    """Yield the rows of a file in order, a row group in memory at a time; None for one not UTF-8.

    Args:
      columns: what to read; the first has to be there.

    Raises:
      UserError: pyarrow is missing, the first column is, or the file cannot be read to its end.

    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow.") from error
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if columns[0] not in names:
                raise UserError(f"data.field={columns[0]!r}: {path} has the columns {names}.")
            wanted = [name for name in columns if name in names]
            for batch in file.iter_batches(ROWS, columns=wanted, use_threads=False):
                yield from _batch_rows(batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read to its end ({error}); fetch it again.") from error


def _batch_rows(batch) -> Iterator[dict | None]:
    for number in range(len(batch)):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield None


def _read(
    path: Path, columns: tuple[str, ...], counts: collections.Counter
) -> Iterator[tuple[int, Any]]:
    for number, row in enumerate(parquet_rows(path, columns)):
        if row is None:
            counts[NOT_UTF8] += 1
        else:
            yield number, row


PARQUET = RowFormat((".parquet",), _read)
