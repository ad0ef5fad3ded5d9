"""Files as streams of bytes: unpacked as they are read, and cut into lines of bounded size."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from specialm.common.errors import UserError

# Raised by reading a file that is gone, forbidden, or not packed as its name says.
DAMAGED = (EOFError, OSError, zlib.error, zstandard.ZstdError)
# The largest window that is unpacked, that of `zstd --long=31`; such a file may take that memory.
WINDOW_BYTES = 1 << 31
# Packed bytes unpacked in one call: zstd packs at most 128 KiB into 4 bytes, so this gives 32 MiB.
PACKED_BYTES = 1 << 10


def open_bytes(path: Path) -> BinaryIO | gzip.GzipFile | io.BufferedReader:
    """Open a file for reading; it is unpacked as it is read if its name ends in .gz or .zst."""
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
            self._input = self._input or self._packed.read(PACKED_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("cut off in the middle of a zstd frame")
                return 0
            self._decompress(self._frame or _new_frame())
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size

    def _decompress(self, frame: "zstandard.ZstdDecompressionObj") -> None:
        try:
            self._output = memoryview(frame.decompress(self._input))
        except zstandard.ZstdError as error:
            raise zstandard.ZstdError(_explained(error, self._input)) from error
        self._input = frame.unused_data if frame.eof else b""
        self._frame = None if frame.eof else frame


def _new_frame() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).decompressobj()


def _explained(error: Exception, packed: bytes) -> str:
    """Return what was wrong; if the window is too large, how large it is."""
    try:
        window = zstandard.get_frame_parameters(packed).window_size
    except (zstandard.ZstdError, ValueError):
        return str(error)
    if window <= WINDOW_BYTES:
        return str(error)
    return f"packed with a window of {window:,} bytes, of which {WINDOW_BYTES:,} are supported"


def read_lines(path: Path, limit: int) -> Iterator[bytes | None]:
    """Yield the lines of a file, with their ends, one in memory at a time.

    Args:
      path: of the file.
      limit: bytes of a line, at most; None is yielded for a longer one.

    Raises:
      UserError: the file cannot be read to its end.

    """
    try:
        with open_bytes(path) as stream:
            while line := stream.readline(limit + 1):
                if len(line) <= limit or line.endswith(b"\n"):
                    yield line
                    continue
                del line
                _pass_over_line(stream)
                yield None
    except DAMAGED as error:
        raise damaged(path, error) from error


def _pass_over_line(stream) -> None:
    while (part := stream.readline(1 << 20)) and not part.endswith(b"\n"):
        pass


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error for a file that cannot be read to its end."""
    what = str(error) or type(error).__name__
    return UserError(f"{path}: cannot be read to its end ({what}); fetch or unpack it again.")
