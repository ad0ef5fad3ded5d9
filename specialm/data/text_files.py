"""Files of text: finding them below a folder, unpacking them, a folder of them as a source."""

import collections
import gzip
import io
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import zstandard

from specialm.common.errors import UserError
from specialm.data.documents import BINARY, NOT_UTF8, Document, Source, checked, file_source

# Raised by reading a file that is gone, forbidden, or not packed as its name says.
DAMAGED = (EOFError, OSError, zlib.error, zstandard.ZstdError)


def find_files(spec: str, path: str, endings: tuple[str, ...] | None) -> tuple[Path, ...]:
    """Return the file `path`, or the files below the folder `path`, sorted; no hidden ones.

    Args:
      spec: the whole source, for errors.
      endings: that a name below a folder must have; None for any.

    Raises:
      UserError: no such path, or no such file below it.

    """
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


def open_bytes(path: Path) -> BinaryIO | gzip.GzipFile | io.BufferedReader:
    """Open a file for reading; it is unpacked if its name ends in .gz or .zst."""
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        return io.BufferedReader(_Zstd(path.open("rb")))
    return path.open("rb")


class _Zstd(io.RawIOBase):
    """Unpacks a .zst file. Unlike zstandard's own reader it raises EOFError if one is cut off."""

    def __init__(self, packed: BinaryIO):
        self._packed = packed
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = b""
        self._output = memoryview(b"")

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
            self._decompress(self._frame or zstandard.ZstdDecompressor().decompressobj())
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size

    def _decompress(self, frame: "zstandard.ZstdDecompressionObj") -> None:
        self._output = memoryview(frame.decompress(self._input))
        self._input = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, with their ends, one in memory at a time.

    Raises:
      UserError: the file cannot be read to its end.

    """
    try:
        with open_bytes(path) as stream:
            yield from stream
    except DAMAGED as error:
        raise UserError(
            f"{path}: cannot be read to its end ({error}); fetch or unpack it again."
        ) from error


def open_folder(spec: str, path: str) -> Source:
    """Return the source of every file below a folder, one document each."""
    return file_source(spec, find_files(spec, path, None), partial(_read_folder, Path(path)))


def _read_folder(
    root: Path, files: tuple[Path, ...], counts: collections.Counter
) -> Iterator[Document]:
    for path in files:
        name = path.relative_to(root).as_posix() if path != root else path.name
        text = _read_text(path, counts)
        if text is not None:
            yield from checked(name, text, name, counts)


def _read_text(path: Path, counts: collections.Counter) -> str | None:
    """Return the text of a file; None, and a count, if it has none."""
    try:
        with open_bytes(path) as stream:
            content = stream.read()
    except DAMAGED:
        counts["skipped: cannot be read"] += 1
        return None
    if b"\0" in content:  # an image or an array, say; some of them are valid UTF-8
        counts[BINARY] += 1
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        counts[NOT_UTF8] += 1
        return None
