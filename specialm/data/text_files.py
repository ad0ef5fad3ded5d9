"""A folder of text files as a source: one document each, large ones in parts."""

import collections
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from specialm.data.documents import (
    BINARY,
    NOT_UTF8,
    Document,
    Skipped,
    Source,
    checked,
    file_source,
    note,
    read_record,
)
from specialm.data.file_tree import find_files, relative_name
from specialm.data.packed_files import DAMAGED, open_bytes

CUT = "cut into parts: files larger than data.max_document_bytes"


def open_folder(spec: str, path: str, limit: int) -> Source:
    """Return the source of every file below a folder, one document each.

    A file of more than `limit` bytes is cut at line ends into parts of at most as many, which are
    documents `NAME#0`, `NAME#1`, ... of one group.
    """
    found = find_files(spec, path, None)
    read = partial(_read_folder, found.root, limit)
    return file_source(spec, found.files, read, found.left_out)


def _read_folder(
    root: Path, limit: int, files: tuple[Path, ...], counts: collections.Counter
) -> Iterator[Document]:
    for path in files:
        name = relative_name(root, path)
        for number, content in enumerate(_parts(path, name, limit, counts)):
            part = name if content.whole else f"{name}#{number}"
            make = partial(_document, part, name, content.content, limit)
            if not (yield from read_record(make, part, counts)):
                break  # what is no text is not looked through to its end


class _Part(collections.namedtuple("_Part", "content whole")):
    """Bytes of a file, and whether they are all of it."""


def _parts(path: Path, name: str, limit: int, counts: collections.Counter) -> Iterator[_Part]:
    """Yield the content of a file, in parts of at most `limit` bytes; count why it ends early."""
    try:
        with open_bytes(path) as stream:
            content = stream.read(limit + 1)
            if len(content) <= limit:
                yield _Part(content, True)
                return
            note(counts, CUT, name)
            while len(content) > limit:
                end = cut_place(content, limit)
                yield _Part(content[:end], False)
                content = content[end:]
                content += stream.read(limit + 1 - len(content))
            if content:
                yield _Part(content, False)
    except DAMAGED:
        note(counts, "skipped: cannot be read", name)


def cut_place(content: bytes, limit: int) -> int:
    """Return where to cut UTF-8 of more than `limit` bytes: at a line's end, else a character's."""
    place = content.rfind(b"\n", 0, limit) + 1
    return place or character_start(content, limit)


def character_start(content: bytes, place: int) -> int:
    """Return the start of the UTF-8 character at `place`, or `place` if it is none."""
    start = place
    while start > max(place - 4, 0) and content[start] & 0xC0 == 0x80:
        start -= 1
    return start if start > max(place - 4, 0) else place


def _document(name: str, group: str, content: bytes, limit: int) -> Document:
    if b"\0" in content:  # an image or an array, say; some of them are valid UTF-8
        raise Skipped(BINARY)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Skipped(NOT_UTF8) from error
    return checked(name, text, group, limit)
