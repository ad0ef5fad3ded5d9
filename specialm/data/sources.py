"""Sources of text: a folder, JSONL, TFDS, any seqio Task, or the default corpora -> documents.

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
from pathlib import Path

from specialm.errors import UserError

JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst")


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
    """`documents(counts)` starts a fresh pass and adds to `counts` what it skips and why."""

    name: str
    documents: Callable[[collections.Counter], Iterator[Document]]
    files: tuple[Path, ...] = ()


def open_source(spec: str, field: str = "text", corpora_root: str = "data/corpora",
                seqio_modules: tuple[str, ...] = ()) -> Source:
    """The source that `spec` names.

    Args:
      spec: `folder:PATH` (every file below it, one document each) | `jsonl:PATH` (a file or a
        folder of them; .gz and .zst are unpacked) | `tfds:NAME[:SPLIT]` | `seqio:TASK[:SPLIT]` |
        `corpora:NAME` (a default corpus under `corpora_root`).
      field: the field of a JSONL line, TFDS or seqio example that holds the text.
      seqio_modules: imported first; they register the Tasks.

    Raises:
      UserError: unknown scheme, or a path, data set or Task that is not there or is empty.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "folder":
        files = _files(spec, rest, None)
        return Source(spec, lambda counts: _read_folder(Path(rest), files, counts), files)
    if scheme == "jsonl":
        files = _files(spec, rest, JSONL_ENDINGS)
        return Source(spec, lambda counts: _read_jsonl(files, field, counts), files)
    if scheme == "corpora":
        return _default_corpus(spec, rest, field, corpora_root)
    if scheme == "tfds":
        return Source(spec, lambda counts: _read_tfds(rest, field, counts))
    if scheme == "seqio":
        return Source(spec, lambda counts: _read_seqio(rest, field, seqio_modules, counts))
    raise UserError(f"source {spec!r}: unknown scheme {scheme!r}; use folder:PATH, jsonl:PATH, "
                    "tfds:NAME, seqio:TASK or corpora:NAME.")


def _default_corpus(spec: str, name: str, field: str, root: str) -> Source:
    path = Path(root) / ("generic" if name == "generic" else f"domains/{name}.jsonl")
    if not path.exists():
        raise UserError(f"source {spec!r}: {path} is not there yet; run `specialm fetch` first "
                        "(or set data.corpora_root to where the corpora are).")
    files = _files(spec, str(path), JSONL_ENDINGS)
    return Source(spec, lambda counts: _read_jsonl(files, field, counts), files)


def _files(spec: str, path: str, endings: tuple[str, ...] | None) -> tuple[Path, ...]:
    root = Path(path)
    if not path or not root.exists():
        raise UserError(f"source {spec!r}: no such file or folder: {path!r}.")
    if root.is_file():
        return (root,)
    files = sorted(f for f in root.rglob("*") if f.is_file() and not f.name.startswith(".")
                   and (endings is None or f.name.endswith(endings)))
    if not files:
        wanted = "no file" if endings is None else f"no file ending in {', '.join(endings)}"
        raise UserError(f"source {spec!r}: {wanted} below {path!r}.")
    return tuple(files)


def open_text(path: Path) -> io.BufferedIOBase:
    """The bytes of a file, unpacked if its name ends in .gz or .zst."""
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb")))
    return path.open("rb")


def _accept(name: str, text: str, group: str, counts) -> Iterator[Document]:
    if not text.strip():
        counts["skipped: empty"] += 1
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
                text = stream.read().decode("utf-8")
        except UnicodeDecodeError:
            counts["skipped: not UTF-8"] += 1
            continue
        yield from _accept(name, text, name, counts)


def _read_jsonl(files: tuple[Path, ...], field: str, counts) -> Iterator[Document]:
    for path in files:
        for number, raw in enumerate(_lines(path)):
            if not raw.strip():
                continue
            try:
                line = json.loads(raw.decode("utf-8"))
            except UnicodeDecodeError:
                counts["skipped: not UTF-8"] += 1
                continue
            except json.JSONDecodeError:
                counts["skipped: not JSON"] += 1
                continue
            if not isinstance(line, dict) or not isinstance(line.get(field), str):
                counts[f"skipped: no text in field {field!r}"] += 1
                continue
            name = str(line.get("id", f"{path.name}/{number}"))
            yield from _accept(name, line[field], str(line.get("group", name)), counts)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_text(path) as stream:
            yield from stream
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read to its end ({error}); fetch or unpack it again."
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
        raise UserError(f"source 'seqio:{spec}': no seqio Task of that name; registered: "
                        f"{', '.join(sorted(seqio.TaskRegistry.names())) or 'none'}. Name the "
                        "module that registers it in data.seqio_modules.")
    source = seqio.TaskRegistry.get(name).source
    examples = source.get_dataset(split=split or "train", shuffle=False)
    yield from _read_examples(f"seqio:{spec}", examples, field, counts)
