"""Documents, sources of them, and the checks that the text of every document passes."""

import collections
import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError

BINARY = "skipped: binary (NUL bytes)"
NOT_UTF8 = "skipped: not UTF-8"
TOO_LARGE = "skipped: larger than data.max_document_bytes"
MAX_BYTES = 64_000_000  # of a document and of a line, unless `data.max_document_bytes` says other
EXAMPLES = 3  # places named for each reason
MARK = "\ufeff"  # the byte-order mark, which is not text


class Counts(collections.Counter):
    """How often each reason occurred, and the places where it first did."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples: dict[str, list[str]] = {}

    def note(self, reason: str, place: str) -> None:
        """Count a reason and remember the place if it is one of the first."""
        self[reason] += 1
        self.remember({reason: [place]})

    def remember(self, examples: dict[str, list[str]]) -> None:
        """Add places, up to EXAMPLES for each reason."""
        for reason, places in examples.items():
            known = self.examples.setdefault(reason, [])
            known += places[: EXAMPLES - len(known)]


def note(counts: collections.Counter, reason: str, place: str) -> None:
    """Count a reason; a `Counts` remembers the place."""
    if isinstance(counts, Counts):
        counts.note(reason, place)
    else:
        counts[reason] += 1


class Skipped(Exception):
    """A record gives no document; the message is the reason that is counted."""


@dataclass(frozen=True)
class Document:
    """A text with its name. Documents of one `group` (a book's chapters) are split together.

    Attributes:
      split_rank: where its group stands, 0 to 1, in a random order of the corpus; the first ones
        are held out. None: a hash of the group's name says so.
    """

    id: str
    text: str
    group: str
    split_rank: float | None = None

    @property
    def group_key(self) -> int:
        """A number in [0, 2^64) that depends on the group's name only."""
        return stable_hash(self.group)

    @property
    def key(self) -> int:
        """A number in [0, 2^64) that depends on the text only."""
        return stable_hash(self.text)


def chance(decision: str, name: str) -> int:
    """Return a number in [0, 2^64) by which one decision about a name is made.

    Two decisions on the same number are one: a corpus cut to the documents of smallest hash, of
    which those of small hash are held out, holds out too many. So every decision has a word of its
    own, and its numbers are independent of all others.
    """
    return stable_hash(f"{decision}\0{name}")


def stable_hash(text: str) -> int:
    """Return 64 bits of BLAKE2b: the same on every machine and in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


Documents = Iterator[Document]
Transform = Callable[[Documents, collections.Counter], Documents]
ReadFiles = Callable[[tuple[Path, ...], collections.Counter], Documents]


@dataclass(frozen=True)
class Source:
    """`documents(counts)` starts a fresh pass and adds to `counts` what it skips and why.

    A source that consists of files has them in `files`; `read(files, counts)` reads some of them,
    and `left_out` counts what else is there, by kind.
    """

    name: str
    documents: Callable[[collections.Counter], Documents]
    files: tuple[Path, ...] = ()
    read: ReadFiles | None = None
    left_out: Counts = field(default_factory=Counts)

    def transformed(self, name: str, transform: Transform) -> "Source":
        """Return a source of the documents that `transform` yields, in the same order.

        Args:
          name: of the new source.
          transform: (documents, counts) -> documents; it reads them one by one.

        """
        return Source(
            name,
            partial(_transform, transform, self.documents),
            self.files,
            self.read and partial(_transform, transform, self.read),
            self.left_out,
        )


def _transform(transform: Transform, read: Callable, *arguments) -> Documents:
    return transform(read(*arguments), arguments[-1])


def file_source(
    name: str, files: tuple[Path, ...], read: ReadFiles, left_out: Counts | None = None
) -> Source:
    """Return a source that consists of these files, read by `read(files, counts)`."""
    return Source(name, partial(read, files), files, read, left_out or Counts())


def checked(name: str, text: str, group: str, limit: int = MAX_BYTES) -> Document:
    """Return the text as a document.

    Args:
      name: of the document, unique in its source.
      text: a byte-order mark in front of it is dropped.
      group: what it is held out with.
      limit: bytes of text, at most.

    Raises:
      Skipped: there is no text, or it is binary, not Unicode or too large.

    """
    text = text.lstrip(MARK)
    if len(text) > limit:
        raise Skipped(TOO_LARGE)
    if not text.strip():
        raise Skipped("skipped: empty")
    if "\0" in text:
        raise Skipped(BINARY)
    if not is_utf8(text):
        raise Skipped(NOT_UTF8)
    if 4 * len(text) > limit and len(text.encode()) > limit:
        raise Skipped(TOO_LARGE)
    return Document(printable(name), text, group)


def read_record(
    make: Callable[[], Document], place: str, counts: collections.Counter
) -> Generator[Document, None, bool]:
    """Yield the document that `make` returns and count it, or only count why there is none.

    The generator returns whether there is one.

    This is the one net under all parsers: whatever they raise on a record skips that record.
    Running out of memory is no property of a record, and an error for the user none either.
    """
    try:
        document = make()
    except Skipped as reason:
        note(counts, str(reason), place)
    except (MemoryError, UserError):
        raise
    except Exception as error:
        note(counts, f"skipped: cannot be parsed ({type(error).__name__})", place)
    else:
        counts["documents"] += 1
        yield document
        return True
    return False


def printable(text: str) -> str:
    """Return a name that can be printed: bytes that are not UTF-8 (of file names) are escaped."""
    return text if is_utf8(text) else text.encode("utf-8", "backslashreplace").decode()


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
