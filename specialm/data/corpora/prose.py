"""Raw text -> clean prose: tidying, unwrapping, packing to documents, near-duplicates."""

import re
from collections.abc import Iterable, Iterator

SIZE = 3000  # characters of a document of short entries, or of a part of a long text
INVISIBLE = str.maketrans("", "", "\u00ad\u200b\u200c\u200d\u2060\ufeff")  # no width


def tidy(text: str) -> str:
    """Normalise white space: single blanks, none at the ends of lines, at most one empty line."""
    text = text.translate(INVISIBLE)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def paragraphs(text: str) -> list[str]:
    """Split a text at its empty lines; the parts have their line breaks."""
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]


def unwrap(paragraph: str) -> str:
    """Join the lines of a paragraph wrapped by hand, unless some are indented (verse, lists)."""
    lines = paragraph.strip("\n").splitlines()
    if any(line[:1].isspace() for line in lines[1:]):
        return "\n".join(lines)
    return " ".join(lines)


ITEM = re.compile(r"\s*([*•-]|\(?([0-9]+|[a-zA-Z]|[ivx]+)(\.[0-9]+)*[.)]) ")


def unwrap_list(paragraph: str, shortest: int = 45) -> str:
    """Join lines as `unwrap`, in text with lists: only after long lines, and not before items."""
    joined: list[str] = []
    last = 0
    for line in paragraph.strip("\n").splitlines():
        if joined and last >= shortest and not ITEM.match(line):
            joined[-1] += f" {line.strip()}"
        else:
            joined.append(line)
        last = len(line)
    return "\n".join(joined)


def pack(blocks: Iterable[str], size: int = SIZE, joiner: str = "\n\n") -> list[str]:
    """Join consecutive blocks into texts of about `size` characters; none is lost or repeated.

    A block longer than twice `size` is broken at its paragraphs, lines, sentences or words, the
    first of these that there is. A short rest is added to the text before it.
    """
    texts: list[str] = []
    pending: list[str] = []
    length = 0
    for block in (part for whole in blocks for part in _divide(whole, size)):
        if pending and length + len(joiner) + len(block) > size:
            texts.append(joiner.join(pending))
            pending, length = [], 0
        length += len(block) + (len(joiner) if pending else 0)
        pending.append(block)
    if pending and texts and length < size // 3:
        pending.insert(0, texts.pop())
    if pending:
        texts.append(joiner.join(pending))
    return texts


def _divide(block: str, size: int) -> list[str]:
    if len(block) <= 2 * size:
        return [block]
    for pattern, joiner in ((r"\n\n", "\n\n"), (r"\n", "\n"), (r"(?<=[.;:!?]) ", " "), (" ", " ")):
        parts = re.split(pattern, block)
        if len(parts) > 1:
            return pack(parts, size, joiner)
    return [block]


def without_near_duplicates(
    texts: Iterable[str], width: int = 5, seen: set[int] | None = None
) -> Iterator[str]:
    """Yield the texts that are no near-duplicates of those yielded before.

    A text is dropped if more than half of its shingles of `width` words (the whole text if it has
    fewer words; case folded) occur in the texts yielded so far, whose shingles are added to `seen`.
    """
    seen = set() if seen is None else seen
    for text in texts:
        shingles = word_shingles(text, width)
        if len(shingles & seen) * 2 <= len(shingles):
            seen |= shingles
            yield text


def word_shingles(text: str, width: int) -> set[int]:
    """Return hashes (of this process) of all runs of `width` words; a shorter text is one run."""
    words = re.findall(r"\w+", text.casefold())
    columns = [words[start:] for start in range(min(width, len(words)))]
    return {hash(shingle) for shingle in zip(*columns, strict=False)}
