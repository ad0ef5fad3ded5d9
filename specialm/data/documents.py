"""Documents, sources of them, and the checks that the text of every document passes."""

import collections
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

BINARY = "skipped: binary (NUL bytes)"
NOT_UTF8 = "skipped: not UTF-8"


@dataclass(frozen=True)
class Document:
    """A text with its name. Documents of one `group` (a book's chapters) are split together."""

    id: str
    text: str
    group: str

    @property
    def group_key(self) -> int:
        """A number in [0, 2^64) that depends on the group's name only."""
        return stable_hash(self.group)

    @property
    def key(self) -> int:
        """A number in [0, 2^64) that depends on the text only."""
        return stable_hash(self.text)


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

    A source that consists of files has them in `files`; `read(files, counts)` reads some of them.
    """

    name: str
    documents: Callable[[collections.Counter], Documents]
    files: tuple[Path, ...] = ()
    read: ReadFiles | None = None

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
        )


def _transform(transform: Transform, read: Callable, *arguments) -> Documents:
    return transform(read(*arguments), arguments[-1])


def file_source(name: str, files: tuple[Path, ...], read: ReadFiles) -> Source:
    """Return a source that consists of these files, read by `read(files, counts)`."""
    return Source(name, partial(read, files), files, read)


def checked(name: str, text: str, group: str, counts: collections.Counter) -> Documents:
    """Yield the text as a document and count it, or only count why it is skipped."""
    if not text.strip():
        counts["skipped: empty"] += 1
    elif "\0" in text:
        counts[BINARY] += 1
    elif not is_utf8(text):
        counts[NOT_UTF8] += 1
    else:
        counts["documents"] += 1
        yield Document(name, text, group)


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
