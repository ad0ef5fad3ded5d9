"""Transformed sources: a sample of the documents, long documents cut into several."""

import collections
from collections.abc import Iterator
from functools import partial

from specialm.data.documents import Document, Source, stable_hash


def subsample(source: Source, fraction: float) -> Source:
    """Return a source with this fraction of the documents, chosen by a hash of their groups."""
    if fraction == 1:
        return source
    return source.transformed(f"{source.name} x {fraction:g}", partial(_choose, fraction))


def _choose(fraction: float, documents: Iterator[Document], counts: collections.Counter):
    for document in documents:
        if stable_hash("part" + document.group) < fraction * 2**64:
            yield document
        else:
            counts["documents"] -= 1
            counts["left out: data.generic_fraction"] += 1


def cut_long_documents(source: Source, chars: int) -> Source:
    """Return a source whose documents are cut into parts of at least `chars` characters.

    Each part is a document of its own when documents are held out. 0 leaves them uncut.
    """
    if not chars:
        return source
    return source.transformed(f"{source.name} in parts of {chars}", partial(_cut_documents, chars))


def _cut_documents(chars: int, documents: Iterator[Document], counts: collections.Counter):
    for document in documents:
        counts["documents"] -= 1
        for number, text in enumerate(_cut_text(document.text, chars)):
            counts["documents"] += 1
            name = f"{document.id}#{number}"
            yield Document(name, text, name)


def _cut_text(text: str, chars: int) -> Iterator[str]:
    """Cut at the first blank line after `chars` characters, at a line's end after twice as many.

    Only white space is lost.
    """
    lines: list[str] = []
    size = 0
    for line in [*text.split("\n"), None]:
        ended = line is None or size >= 2 * chars or (size >= chars and not line.strip())
        if ended and size:
            yield "\n".join(lines)
            lines, size = [], 0
        if line is not None and (size or line.strip()):
            lines.append(line)
            size += len(line) + 1
