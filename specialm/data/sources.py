"""Sources of text: files of several kinds, TFDS, any seqio Task, the default corpora -> documents.

A source is written `scheme:rest` (see `open_source`); SOURCES has the schemes. Every reader yields
documents one by one in a fixed order, so that a job can be restarted, and counts what it skips.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.csv_files import CSV
from specialm.data.documents import Document, Source, file_source, stable_hash
from specialm.data.examples import open_seqio, open_tfds
from specialm.data.jsonl_files import JSONL
from specialm.data.parquet_files import PARQUET
from specialm.data.repositories import open_repository
from specialm.data.rows import RowFormat, open_rows, read_documents
from specialm.data.text_files import find_files, open_folder

__all__ = ["Document", "Source", "open_source", "resolve_source", "stable_hash"]

RESERVED = ("generic", "macro")  # names that no domain may have


@dataclass(frozen=True)
class Settings:
    """The settings that sources are opened with, see `open_source`."""

    field: str
    corpora_root: str
    seqio_modules: tuple[str, ...]


@dataclass(frozen=True)
class Scheme:
    """A kind of source.

    Attributes:
      rest: what follows the scheme and a colon, for messages.
      open: (spec, rest, settings) -> the source.
      endings: of the names of files that are taken for this kind if no scheme is given.
      on_disk: whether `rest` begins with a path.

    """

    rest: str
    open: Callable[[str, str, Settings], Source]
    endings: tuple[str, ...] = ()
    on_disk: bool = True


def _rows(row_format: RowFormat) -> Scheme:
    return Scheme(
        "PATH",
        lambda spec, rest, settings: open_rows(spec, rest, settings.field, row_format),
        row_format.endings,
    )


# The folders of the generic corpora (see data/corpora/widen.py).
GENERIC = {"generic": ("generic",), "generic_wide": ("generic", "generic_wide")}


def _open_default_corpus(spec: str, name: str, settings: Settings) -> Source:
    root = Path(settings.corpora_root)
    paths = [root / part for part in GENERIC.get(name, (f"domains/{name}.jsonl",))]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"source {spec!r}: {path} is not there yet; run `{_fetching(name)}` first "
                "(or set data.corpora_root to where the corpora are)."
            )
    files = tuple(f for path in paths for f in find_files(spec, str(path), JSONL.endings))
    return file_source(spec, files, partial(read_documents, settings.field, None, (JSONL,)))


def _fetching(name: str) -> str:
    from specialm.data.corpora import widen

    return f"specialm fetch{' --wide' if widen.is_wide(name) else ''}"


SOURCES = {
    "folder": Scheme("PATH", lambda spec, rest, settings: open_folder(spec, rest)),
    "jsonl": _rows(JSONL),
    "parquet": _rows(PARQUET),
    "csv": _rows(CSV),
    "hf": Scheme(
        "PATH:SPLIT",
        lambda spec, rest, settings: open_repository(spec, rest, settings.field, (PARQUET, JSONL)),
    ),
    "tfds": Scheme(
        "NAME", lambda spec, rest, settings: open_tfds(spec, rest, settings.field), on_disk=False
    ),
    "seqio": Scheme(
        "TASK",
        lambda spec, rest, settings: open_seqio(spec, rest, settings.field, settings.seqio_modules),
        on_disk=False,
    ),
    "corpora": Scheme("NAME", _open_default_corpus, on_disk=False),
}


def open_source(
    spec: str,
    field: str = "text",
    corpora_root: str = "data/corpora",
    seqio_modules: tuple[str, ...] = (),
) -> Source:
    """Return the source that `spec` names.

    Args:
      spec: `folder:PATH` (every file below it, one document each) | `jsonl:PATH` (a file or a
        folder of them; .gz and .zst are unpacked) | `parquet:PATH` or
        `csv:PATH` (likewise) | `hf:PATH[:SPLIT]`
        (a Hugging Face repository on disk, or a folder of it, of JSONL or Parquet; `train` if no
        split is given) | `tfds:NAME[:SPLIT]` | `seqio:TASK[:SPLIT]` | `corpora:NAME` (a default
        corpus under `corpora_root`). `?FIELD=VALUE` after a path to rows selects those rows;
        fields of fields are written with dots: `jsonl:pile?meta.pile_set_name=ArXiv`.
      field: the field of a row or example (JSONL, Parquet, CSV, TFDS, seqio) that holds the text.
      corpora_root: the folder with the default corpora.
      seqio_modules: imported first; they register the Tasks.

    Raises:
      UserError: unknown scheme, or a path, data set or Task that is not there or is empty.

    """
    scheme, _, rest = spec.partition(":")
    if scheme not in SOURCES:
        *first, last = (f"{name}:{kind.rest}" for name, kind in SOURCES.items())
        raise UserError(
            f"source {spec!r}: unknown scheme {scheme!r}; use {', '.join(first)} or {last}."
        )
    return SOURCES[scheme].open(spec, rest, Settings(field, corpora_root, seqio_modules))


def resolve_source(spec: str) -> tuple[str, str]:
    """Return (name, source) of what a user gives: a source, or simply a file or a folder.

    The name is that of the file, folder, data set or Task: "Our Notes.jsonl" -> our-notes.

    Raises:
      UserError: neither a source nor a path that exists.

    """
    scheme, colon, rest = spec.partition(":")
    if not colon or scheme not in SOURCES:
        path = Path(spec).expanduser()
        if not spec or not path.exists():
            raise UserError(
                f"--source={spec}: no such file or folder; give one, or "
                f"{', '.join(f'{name}:...' for name in SOURCES)}."
            )
        scheme, rest = _scheme_of_file(path), str(path)
    stem = rest
    if SOURCES[scheme].on_disk:
        rest = str(Path(rest).expanduser())
        stem = Path(rest).resolve().name.lstrip(".").split(".")[0]
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "text"
    return f"{name}-text" if name in RESERVED else name, f"{scheme}:{rest}"


def _scheme_of_file(path: Path) -> str:
    for name, scheme in SOURCES.items():
        if scheme.endings and path.name.endswith(scheme.endings):
            return name
    return "folder"
