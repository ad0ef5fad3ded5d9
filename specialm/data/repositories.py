"""Hugging Face repositories on disk: which of their files hold a split."""

import re
from functools import partial
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.documents import Source, file_source
from specialm.data.rows import RowFormat, parse_filter, read_documents
from specialm.data.text_files import find_files

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


def open_repository(spec: str, path: str, field: str, formats: tuple[RowFormat, ...]) -> Source:
    """Return the source of `PATH[:SPLIT][?FIELD=VALUE]`; the split is `train` if none is given.

    Args:
      spec: the whole source, for errors.
      formats: of the files that are read; other files are left out.

    Raises:
      UserError: no such path or split, or no file of it.

    """
    path, wanted = parse_filter(path)
    folder, colon, split = path.rpartition(":")
    if not colon or Path(path).exists():
        folder, split = path, "train"
    endings = tuple(ending for row_format in formats for ending in row_format.endings)
    files = files_of_split(spec, Path(folder), find_files(spec, folder, endings), split)
    return file_source(spec, files, partial(read_documents, field, wanted, formats))


def split_of(path: Path) -> str | None:
    """Return the split that a file's name, or else the nearest of its folders, says, if any."""
    for part in reversed(path.parts):
        for split, names in SPLITS.items():
            if re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", part.lower()):
                return split
    return None


def files_of_split(spec: str, root: Path, files: tuple[Path, ...], split: str) -> tuple[Path, ...]:
    """Return those of a repository's files that hold a split; files that name none are `train`.

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
    chosen = tuple(path for path, its_split in splits.items() if its_split == split)
    if not chosen:
        raise UserError(
            f"source {spec!r}: no file of the split {split!r}; there are files of "
            f"{', '.join(sorted(set(splits.values()))) or 'none'}."
        )
    return chosen
