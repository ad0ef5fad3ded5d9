"""Sources of text: files of several kinds, TFDS, any seqio Task, the default corpora -> documents.

A source is written `scheme:rest` (see `open_source`); SOURCES has the schemes. Every reader yields
documents one by one in a fixed order, so that a job can be restarted, and counts what it skips.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.names import is_name
from specialm.data.csv_files import CSV
from specialm.data.documents import MAX_BYTES, Counts, Document, Source, file_source, stable_hash
from specialm.data.examples import open_seqio, open_tfds
from specialm.data.file_tree import find_files
from specialm.data.jsonl_files import JSONL
from specialm.data.parquet_files import PARQUET
from specialm.data.repositories import open_repository
from specialm.data.rows import Reading, RowFormat, open_rows
from specialm.data.text_files import open_folder

__all__ = ["Document", "Source", "open_source", "resolve_source", "stable_hash"]

RESERVED = ("generic", "macro")  # names that no domain may have


@dataclass(frozen=True)
class Settings:
    """The settings that sources are opened with, see `open_source`."""

    field: str
    corpora_root: str
    seqio_modules: tuple[str, ...]
    limit: int


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
        lambda spec, rest, settings: open_rows(
            spec, rest, settings.field, row_format, settings.limit
        ),
        row_format.endings,
    )


# The folders of the generic corpora (see data/corpora/widen.py).
GENERIC = {"generic": ("generic",), "generic_wide": ("generic", "generic_wide")}


def _open_default_corpus(spec: str, name: str, settings: Settings) -> Source:
    if not is_name(name):
        raise UserError(f"source {spec!r}: {name!r} is not the name of a corpus.")
    root = Path(settings.corpora_root)
    paths = [root / part for part in GENERIC.get(name, (f"domains/{name}.jsonl",))]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"source {spec!r}: {path} is not there yet; run `{_fetching(name)}` first "
                "(or set data.corpora_root to where the corpora are)."
            )
    parts = [find_files(spec, str(path), JSONL.endings) for path in paths]
    files = tuple(file for found in parts for file in found.files)
    # Names of documents are those below the one folder, or below the root of several.
    top = parts[0].root if len(parts) == 1 else root
    reading = Reading(top, settings.field, None, (JSONL,), settings.limit)
    left_out = Counts()
    for found in parts:
        left_out.update(found.left_out)
        left_out.remember(found.left_out.examples)
    return file_source(spec, files, reading.documents, left_out)


def _fetching(name: str) -> str:
    from specialm.data.corpora import widen

    return f"specialm fetch{' --wide' if widen.is_wide(name) else ''}"


WITHHELD = "not opened: "  # before a source that only a run folder names, see workflows/trust.py

SOURCES = {
    "folder": Scheme("PATH", lambda spec, rest, settings: open_folder(spec, rest, settings.limit)),
    "jsonl": _rows(JSONL),
    "parquet": _rows(PARQUET),
    "csv": _rows(CSV),
    "hf": Scheme(
        "PATH:SPLIT",
        lambda spec, rest, settings: open_repository(
            spec, rest, settings.field, (PARQUET, JSONL), settings.limit
        ),
    ),
    "tfds": Scheme(
        "NAME",
        lambda spec, rest, settings: open_tfds(spec, rest, settings.field, settings.limit),
        on_disk=False,
    ),
    "seqio": Scheme(
        "TASK",
        lambda spec, rest, settings: open_seqio(
            spec, rest, settings.field, settings.seqio_modules, settings.limit
        ),
        on_disk=False,
    ),
    "corpora": Scheme("NAME", _open_default_corpus, on_disk=False),
}


def open_source(
    spec: str,
    field: str = "text",
    corpora_root: str = "data/corpora",
    seqio_modules: tuple[str, ...] = (),
    max_document_bytes: int = MAX_BYTES,
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
      max_document_bytes: of one document and of one line, at most; larger ones are counted.

    Raises:
      UserError: unknown scheme, or a path, data set or Task that is not there or is empty.

    """
    check_scheme("source", spec)
    scheme, _, rest = spec.partition(":")
    settings = Settings(field, corpora_root, seqio_modules, max_document_bytes)
    return SOURCES[scheme].open(spec, rest, settings)


def check_scheme(setting: str, spec: str) -> None:
    """Raise UserError for a source whose scheme there is not; the setting is named."""
    scheme = spec.partition(":")[0]
    if scheme not in SOURCES:
        *first, last = (f"{name}:{kind.rest}" for name, kind in SOURCES.items())
        raise UserError(
            f"{setting}={spec!r}: unknown scheme {scheme!r}; use {', '.join(first)} or {last}."
        )


def check_name(domain: str) -> None:
    """Raise UserError for what cannot be the name of a domain; folders are named after it."""
    if domain in RESERVED or not is_name(domain):
        raise UserError(
            f"data.domains.{domain}: a domain's name must begin with a letter or digit, hold only "
            f"letters, digits, '_', '-', '+', '.' and spaces, and not be {' or '.join(RESERVED)}."
        )


def resolve_source(spec: str, option: str = "source") -> tuple[str, str]:
    """Return (name, source) of what a user gives: a source, or simply a file or a folder.

    The name is that of the file, folder, data set or Task: "Our Notes.jsonl" -> our-notes.

    Args:
      spec: what was given.
      option: that it was given with.

    Raises:
      UserError: neither a source nor a path that exists.

    """
    scheme, colon, rest = spec.partition(":")
    if not colon or scheme not in SOURCES:
        path = Path(spec).expanduser()
        if not spec or not path.exists():
            raise UserError(
                f"--{option}={spec}: no such file or folder; give one, or "
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
