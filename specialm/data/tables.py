"""Parquet files, the files of a Hugging Face repository on disk, filters on a field."""

import re
from collections.abc import Iterator
from pathlib import Path

from specialm.common.errors import UserError

ROWS = 64  # of a Parquet file that are turned into Python at a time
# What a file or one of its folders is called for a split, as in Hugging Face repositories.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# JSON that describes a repository and is no text.
ABOUT = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
)


def parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict | None]:
    """The rows of a file in order, a row group in memory at a time; None for one not UTF-8.

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
            there = file.schema_arrow.names
            if columns[0] not in there:
                raise UserError(f"data.field={columns[0]!r}: {path} has the columns {there}.")
            wanted = [name for name in columns if name in there]
            for batch in file.iter_batches(ROWS, columns=wanted, use_threads=False):
                yield from _rows(batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read to its end ({error}); fetch it again.") from error


def _rows(batch) -> Iterator[dict | None]:
    for number in range(len(batch)):
        try:
            yield batch.slice(number, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield None


def split_of(path: Path) -> str | None:
    """The split that a file's name, or else the nearest of its folders, says; None if none does."""
    for part in reversed(path.parts):
        for split, names in SPLITS.items():
            if re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", part.lower()):
                return split
    return None


def files_of_split(spec: str, root: Path, files: tuple[Path, ...], split: str) -> tuple[Path, ...]:
    """Those of a repository's files that hold a split; files that name none are `train`.

    Raises:
      UserError: unknown split, or no file holds it.
    """
    if split not in SPLITS:
        raise UserError(f"source {spec!r}: unknown split {split!r}; use {', '.join(SPLITS)}.")
    splits = {
        path: split_of(path.relative_to(root) if path != root else Path(path.name)) or "train"
        for path in files
        if path.name not in ABOUT
    }
    found = tuple(path for path, of in splits.items() if of == split)
    if not found:
        raise UserError(
            f"source {spec!r}: no file of the split {split!r}; there are files of "
            f"{', '.join(sorted(set(splits.values()))) or 'none'}."
        )
    return found


def parse_filter(rest: str) -> tuple[str, tuple[str, str] | None]:
    """ "PATH?meta.set=ArXiv" -> ("PATH", ("meta.set", "ArXiv")); without a filter (rest, None)."""
    found = re.fullmatch(r"(.*)\?([\w.-]+)=(.*)", rest)
    return (found[1], (found[2], found[3])) if found else (rest, None)


def nested(row: dict, name: str):
    """The value of a field of fields, `meta.set`; None if it is not there."""
    value = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
