"""Sources of text: files of several kinds, TFDS, any seqio Task, the default corpora -> documents.

A source is written `scheme:rest` (see `open_source`). Every reader yields documents one by one in
a fixed order, so that a job can be restarted, and counts what it had to skip.
"""

import collections
import gzip
import hashlib
import importlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import zstandard

from specialm.common.errors import UserError
from specialm.data import tables

SCHEMES = ("folder", "jsonl", "parquet", "hf", "tfds", "seqio", "corpora")
RESERVED = ("generic", "macro")  # names that are no domain's
BINARY = "skipped: binary (NUL bytes)"
JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst")
PARQUET_ENDINGS = (".parquet",)
Filter = tuple[str, str] | None  # a field and the value that it must have
# What reading a file raises that is not there any more, not allowed, or not packed as it says.
DAMAGED = (EOFError, OSError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True)
class Document:
    """A text with its name. Documents of one `group` (a book's chapters) are split together."""

    id: str
    text: str
    group: str

    @property
    def group_key(self) -> int:
        """A number in [0, 2^64) that depends on the group's name alone."""
        return stable_hash(self.group)

    @property
    def key(self) -> int:
        """A number in [0, 2^64) that depends on the text alone."""
        return stable_hash(self.text)


def stable_hash(text: str) -> int:
    """64 bits of BLAKE2b: the same on every machine and in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class Source:
    """`documents(counts)` starts a fresh pass and adds to `counts` what it skips and why.

    A source made of files has them in `files`, and `read(files, counts)` is a pass over some.
    """

    name: str
    documents: Callable[[collections.Counter], Iterator[Document]]
    files: tuple[Path, ...] = ()
    read: Callable[[tuple[Path, ...], collections.Counter], Iterator[Document]] | None = None

    def changed(
        self,
        name: str,
        change: Callable[[Iterator[Document], collections.Counter], Iterator[Document]],
    ) -> "Source":
        """The source of what `change` makes of the documents, one by one and in order."""
        return Source(
            name,
            partial(_change, change, self.documents),
            self.files,
            self.read and partial(_change, change, self.read),
        )


def _change(change, read, *arguments):
    return change(read(*arguments), arguments[-1])


def _of_files(name: str, files: tuple[Path, ...], read) -> Source:
    return Source(name, partial(read, files), files, read)


def named(spec: str) -> tuple[str, str]:
    """(name, source) of what a user calls his text: a source, or simply a file or a folder.

    The name is made of that of the file, folder, data set or Task: "Our Notes.jsonl" -> our-notes.

    Raises:
      UserError: neither a source nor a path that is there.
    """
    scheme, found, rest = spec.partition(":")
    if not found or scheme not in SCHEMES:
        path = Path(spec).expanduser()
        if not spec or not path.exists():
            raise UserError(
                f"--source={spec}: no such file or folder; give one, or "
                f"{', '.join(f'{name}:...' for name in SCHEMES)}."
            )
        scheme, rest = _scheme(path), str(path)
    if scheme in ("folder", "jsonl", "parquet", "hf"):
        rest = str(Path(rest).expanduser())
        stem = Path(rest).resolve().name.lstrip(".").split(".")[0]
    else:
        stem = rest
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "text"
    return f"{name}-text" if name in RESERVED else name, f"{scheme}:{rest}"


def _scheme(path: Path) -> str:
    if path.name.endswith(JSONL_ENDINGS):
        return "jsonl"
    return "parquet" if path.name.endswith(PARQUET_ENDINGS) else "folder"


def open_source(
    spec: str,
    field: str = "text",
    corpora_root: str = "data/corpora",
    seqio_modules: tuple[str, ...] = (),
) -> Source:
    """The source that `spec` names.

    Args:
      spec: `folder:PATH` (every file below it, one document each) | `jsonl:PATH` (a file or a
        folder of them; .gz and .zst are unpacked) | `parquet:PATH` (likewise) | `hf:PATH[:SPLIT]`
        (a Hugging Face repository on disk, or a folder of it, of JSONL or Parquet; `train` if no
        split is given) | `tfds:NAME[:SPLIT]` | `seqio:TASK[:SPLIT]` | `corpora:NAME` (a default
        corpus under `corpora_root`). `?FIELD=VALUE` behind the first three kinds of rows takes
        those alone, fields of fields with dots: `jsonl:pile?meta.pile_set_name=ArXiv`.
      field: the field of a JSONL line, Parquet row, TFDS or seqio example that holds the text.
      seqio_modules: imported first; they register the Tasks.

    Raises:
      UserError: unknown scheme, or a path, data set or Task that is not there or is empty.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "folder":
        return _of_files(spec, _files(spec, rest, None), partial(_read_folder, Path(rest)))
    if scheme in ("jsonl", "parquet", "hf"):
        path, wanted = tables.parse_filter(rest)
        files = (
            _repository(spec, path)
            if scheme == "hf"
            else _files(spec, path, JSONL_ENDINGS if scheme == "jsonl" else PARQUET_ENDINGS)
        )
        return _of_files(spec, files, partial(_read_rows, field, wanted))
    if scheme == "corpora":
        return _default_corpus(spec, rest, field, corpora_root)
    if scheme == "tfds":
        return Source(spec, partial(_read_tfds, rest, field))
    if scheme == "seqio":
        return Source(spec, partial(_read_seqio, rest, field, seqio_modules))
    raise UserError(
        f"source {spec!r}: unknown scheme {scheme!r}; use folder:PATH, jsonl:PATH, "
        "parquet:PATH, hf:PATH:SPLIT, tfds:NAME, seqio:TASK or corpora:NAME."
    )


def _repository(spec: str, rest: str) -> tuple[Path, ...]:
    """The files of `PATH[:SPLIT]`."""
    path, found, split = rest.rpartition(":")
    if not found or Path(rest).exists():
        path, split = rest, "train"
    files = _files(spec, path, (*PARQUET_ENDINGS, *JSONL_ENDINGS))
    return tables.files_of_split(spec, Path(path), files, split)


def _default_corpus(spec: str, name: str, field: str, root: str) -> Source:
    path = Path(root) / ("generic" if name == "generic" else f"domains/{name}.jsonl")
    if not path.exists():
        raise UserError(
            f"source {spec!r}: {path} is not there yet; run `specialm fetch` first "
            "(or set data.corpora_root to where the corpora are)."
        )
    return _of_files(spec, _files(spec, str(path), JSONL_ENDINGS), partial(_read_rows, field, None))


def _files(spec: str, path: str, endings: tuple[str, ...] | None) -> tuple[Path, ...]:
    root = Path(path)
    if not path or not root.exists():
        raise UserError(f"source {spec!r}: no such file or folder: {path!r}.")
    if root.is_file():
        return (root,)
    files = sorted(
        f
        for f in root.rglob("*")
        if f.is_file()
        and not f.name.startswith(".")
        and (endings is None or f.name.endswith(endings))
    )
    if not files:
        wanted = "no file" if endings is None else f"no file ending in {', '.join(endings)}"
        raise UserError(f"source {spec!r}: {wanted} below {path!r}.")
    return tuple(files)


def open_text(path: Path) -> io.BufferedIOBase:
    """The bytes of a file, unpacked if its name ends in .gz or .zst."""
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        return io.BufferedReader(_Zstd(path.open("rb")))
    return path.open("rb")


class _Zstd(io.RawIOBase):
    """What a .zst file holds. Unlike zstandard's own reader, raises EOFError if it was cut off."""

    def __init__(self, packed: io.BufferedIOBase):
        self._packed, self._frame, self._input, self._output = packed, None, b"", b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._packed.close()
        super().close()

    def readinto(self, buffer) -> int:
        while not self._output:
            self._input = self._input or self._packed.read(1 << 16)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("cut off in the middle of a zstd frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._output = memoryview(self._frame.decompress(self._input))
            self._input = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size


def _accept(name: str, text: str, group: str, counts) -> Iterator[Document]:
    if not text.strip():
        counts["skipped: empty"] += 1
    elif "\0" in text:
        counts[BINARY] += 1
    elif not _is_utf8(text):  # half a surrogate pair, as JSON escapes can hold
        counts["skipped: not UTF-8"] += 1
    else:
        counts["documents"] += 1
        yield Document(name, text, group)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _read_folder(root: Path, files: tuple[Path, ...], counts) -> Iterator[Document]:
    for path in files:
        name = path.relative_to(root).as_posix() if path != root else path.name
        try:
            with open_text(path) as stream:
                content = stream.read()
        except DAMAGED:
            counts["skipped: cannot be read"] += 1
            continue
        if b"\0" in content:  # an image or an array, say; some of them are valid UTF-8
            counts[BINARY] += 1
            continue
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            counts["skipped: not UTF-8"] += 1
            continue
        yield from _accept(name, text, name, counts)


def _read_rows(field: str, wanted: Filter, files: tuple[Path, ...], counts) -> Iterator[Document]:
    """Documents of JSONL lines and Parquet rows."""
    for path in files:
        rows = (
            _parquet(path, field, wanted, counts)
            if path.name.endswith(PARQUET_ENDINGS)
            else _jsonl(path, counts)
        )
        for number, row in rows:
            if wanted and isinstance(row, dict) and str(tables.nested(row, wanted[0])) != wanted[1]:
                counts["left out: {} is not {}".format(*wanted)] += 1
                continue
            if not isinstance(row, dict) or not isinstance(row.get(field), str):
                counts[f"skipped: no text in field {field!r}"] += 1
                continue
            name = str(_there(row.get("id"), f"{path.name}/{number}"))
            yield from _accept(name, row[field], str(_there(row.get("group"), name)), counts)


def _there(value, otherwise):
    return otherwise if value is None else value


def _parquet(path: Path, field: str, wanted: Filter, counts) -> Iterator[tuple[int, dict]]:
    columns = [field, "id", "group", *([wanted[0].split(".")[0]] if wanted else [])]
    for number, row in enumerate(tables.parquet_rows(path, tuple(dict.fromkeys(columns)))):
        if row is None:
            counts["skipped: not UTF-8"] += 1
            continue
        yield number, row


def _jsonl(path: Path, counts) -> Iterator[tuple[int, object]]:
    for number, raw in enumerate(_lines(path)):
        if not raw.strip():
            continue
        try:
            yield number, json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError:
            counts["skipped: not UTF-8"] += 1
        except json.JSONDecodeError:
            counts["skipped: not JSON"] += 1


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_text(path) as stream:
            yield from stream
    except DAMAGED as error:
        raise UserError(
            f"{path}: cannot be read to its end ({error}); fetch or unpack it again."
        ) from error


def _text(value) -> str | None:
    """Text of an example's field; None if its bytes are not UTF-8."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        return None


def _read_examples(spec: str, examples, field: str, counts) -> Iterator[Document]:
    for number, example in enumerate(examples):
        if field not in example:
            raise UserError(f"data.field={field!r}: {spec} has the fields {sorted(example)}.")
        text = _text(example[field])
        if text is None:
            counts["skipped: not UTF-8"] += 1
            continue
        name = f"{spec}/{number}"
        yield from _accept(name, text, name, counts)


def _read_tfds(spec: str, field: str, counts) -> Iterator[Document]:
    import tensorflow_datasets as tfds

    # NAME:SPLIT, where a name may end in :VERSION itself.
    name, _, last = spec.rpartition(":")
    if not name or re.fullmatch(r"[0-9*]+(\.[0-9*]+)*", last):
        name, last = spec, "train"
    try:
        examples = tfds.data_source(name, split=last)
    except Exception as error:
        raise UserError(f"source 'tfds:{spec}': {error}") from error
    yield from _read_examples(f"tfds:{spec}", examples, field, counts)


def _read_seqio(spec: str, field: str, modules: tuple[str, ...], counts) -> Iterator[Document]:
    import seqio

    for module in modules:
        importlib.import_module(module)
    name, _, split = spec.partition(":")
    if name not in seqio.TaskRegistry.names():
        raise UserError(
            f"source 'seqio:{spec}': no seqio Task of that name; registered: "
            f"{', '.join(sorted(seqio.TaskRegistry.names())) or 'none'}. Name the "
            "module that registers it in data.seqio_modules."
        )
    source = seqio.TaskRegistry.get(name).source
    examples = source.get_dataset(split=split or "train", shuffle=False)
    yield from _read_examples(f"seqio:{spec}", examples, field, counts)
