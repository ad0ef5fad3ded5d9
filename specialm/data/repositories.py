"""Hugging Face repositories on disk: which of their files hold a split."""

import re
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.documents import Source, file_source
from specialm.data.field_values import parse_filter
from specialm.data.file_tree import Files, find_files
from specialm.data.rows import Reading, RowFormat

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


def open_repository(
    spec: str, path: str, field: str, formats: tuple[RowFormat, ...], limit: int
) -> Source:
    """Return the source of `PATH[:SPLIT][?FIELD=VALUE]`; the split is `train` if none is given.

    Args:
      spec: the whole source, for errors.
      path: what follows `hf:`.
      field: that holds the text.
      formats: of the files that are read; other files are left out.
      limit: bytes of a row and of a text, at most.

    Raises:
      UserError: no such path or split, or no file of it.

    """
    path, wanted = parse_filter(path)
    folder, colon, split = path.rpartition(":")
    if not colon or Path(path).exists():
        folder, split = path, "train"
    endings = tuple(ending for row_format in formats for ending in row_format.endings)
    found = find_files(spec, folder, endings)
    files = files_of_split(spec, found, split)
    reading = Reading(found.root, field, wanted, formats, limit)
    return file_source(spec, files, reading.documents, found.left_out)


def split_of(path: Path) -> str | None:
    """Return the split that a file's name, or else the nearest of its folders, says, if any."""
    for part in reversed(path.parts):
        for split, names in SPLITS.items():
            if re.search(rf"(?<![a-z])({'|'.join(names)})(?![a-z])", part.lower()):
                return split
    return None


def files_of_split(spec: str, found: Files, split: str) -> tuple[Path, ...]:
    """Return those of a repository's files that hold a split; files that name none are `train`.

    The others are counted in `found.left_out`.

    Raises:
      UserError: unknown split, or no file holds it.

    """
    if split not in SPLITS:
        raise UserError(f"source {spec!r}: unknown split {split!r}; use {', '.join(SPLITS)}.")
    splits = {
        path: "" if path.name in ABOUT else split_of(Path(found.name(path))) or "train"
        for path in found.files
    }
    for path, its_split in splits.items():
        if its_split != split:
            kind = "of another split" if its_split else "that describe the repository"
            found.left_out.note(f"left out: files {kind}", found.name(path))
    chosen = tuple(path for path, its_split in splits.items() if its_split == split)
    if not chosen:
        others = sorted(set(filter(None, splits.values())))
        raise UserError(
            f"source {spec!r}: no file of the split {split!r}; there are files of "
            f"{', '.join(others) or 'none'}."
        )
    return chosen
