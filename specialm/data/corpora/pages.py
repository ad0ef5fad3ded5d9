"""Text of HTML pages: the blocks that are prose, without navigation, code, tables of figures."""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser

from specialm.data.corpora.extractors import FUNCTION_WORDS, parts
from specialm.data.corpora.prose import SIZE, pack, tidy
from specialm.data.documents import Document

Files = Iterable[tuple[str, bytes]]  # (name, content) of an archive, in its order

SHORT = 1000  # characters of a page that is joined with those after it
# Cut out before a page is parsed: most of the bytes of API references are coloured code.
CODE = re.compile(r"<(pre|script|style|svg|math|head)\b[^>]*>.*?</\1\s*>", re.DOTALL | re.I)
SKIPPED = frozenset("nav header footer aside form button select textarea title".split())
SKIPPED_CLASSES = frozenset(
    "navheader navfooter sphinxsidebar related headerlink copiable-anchor copiable-link toc header "
    "footer nav-panel clearer indextable genindextable index-fn MathJax_Preview up".split()
)
BLOCKS = frozenset(
    "p li dd dt td th tr table h1 h2 h3 h4 h5 h6 div section article blockquote caption figcaption "
    "ul ol dl body hr".split()
)
NUMBER = re.compile(r"^(Chapter|Appendix)?\s*([\dA-Z]\d*\.)?[\d.-]*\s+|\s*[¶#]$")  # of a heading
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
VOID = frozenset("br hr img input meta link area base col embed source track wbr".split())


def html_pages(files: Files) -> Iterator[Document]:
    """Extract HTML pages; a block that occurred before in the source is dropped.

    A page is a group. Consecutive pages of one folder that are short, as those of glossaries are,
    become one document.
    """
    seen: set[str] = set()
    pending: list[tuple[str, str]] = []
    for path, content in files:
        name = re.sub(r"\.x?html?$", "", path)
        text = "\n\n".join(unseen(html_prose(content.decode("utf-8", "replace")), seen))
        full = sum(len(short) for _, short in pending) > SIZE
        if pending and (full or len(text) >= SHORT or _folder(name) != _folder(pending[0][0])):
            yield from _joined(pending)
            pending = []
        if len(text) >= SHORT:
            yield from parts(name, pack(text.split("\n\n")))
        elif text:
            pending.append((name, text))
    yield from _joined(pending)


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _joined(pages: list[tuple[str, str]]) -> Iterator[Document]:
    if pages:
        yield from parts(pages[0][0], pack(text for _, text in pages))


def unseen(blocks: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Yield the blocks that are not in `seen`, to which they are added."""
    for block in blocks:
        if block not in seen:
            seen.add(block)
            yield block


def html_prose(page: str) -> Iterator[str]:
    """Yield the blocks of a page that are sentences, and the headings in front of them."""
    heading = ""
    for tag, text in html_blocks(page):
        if tag in HEADINGS:
            heading = text
        elif is_prose(text):
            if heading:
                yield NUMBER.sub("", heading)
                heading = ""
            yield text


def html_blocks(page: str) -> list[tuple[str, str]]:
    """(tag, text) of the blocks of a page, navigation and code left out."""
    parser = _Parser()
    parser.feed(CODE.sub("", page))
    parser.close()
    return parser.blocks()


def is_prose(text: str, words: int = 6) -> bool:
    """Whether a block has sentences of English: no menu, formula, signature or lead to code."""
    found = text.split()
    if len(found) < words or text.endswith(":") or text.count("\\") > 1:
        return False
    known = sum(word.strip(".,;:()\"'").lower() in FUNCTION_WORDS for word in found)
    letters = sum(c.isascii() and c.isalpha() or c.isspace() for c in text)
    return known >= 0.15 * len(found) and letters >= 0.8 * len(text)


class _Parser(HTMLParser):
    """Collects (tag, text) of block elements; elements of SKIPPED are passed over."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._blocks: list[tuple[str, str]] = []
        self._pieces: list[str] = []
        self._tag = ""
        self._skipped = ""  # the element that is passed over, and how deep in its own kind
        self._depth = 0

    def blocks(self) -> list[tuple[str, str]]:
        """(tag, text) in the page's order."""
        self._end_block("")
        return self._blocks

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h1":
            self._skipped = ""  # in some pages the head is never closed
        if self._skipped:
            self._depth += tag == self._skipped
        elif tag not in VOID and (tag in SKIPPED or _is_navigation(attrs)):
            self._skipped, self._depth = tag, 1
        elif tag in BLOCKS:
            self._end_block(tag)
        elif tag == "br":
            self._pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            self._depth -= tag == self._skipped
            if not self._depth:
                self._skipped = ""
        elif tag in BLOCKS:
            self._end_block("")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._pieces.append(data)

    def _end_block(self, tag: str) -> None:
        text = tidy(" ".join("".join(self._pieces).split())) if self._pieces else ""
        if text:
            self._blocks.append((self._tag, text))
        self._pieces.clear()
        self._tag = tag


def _is_navigation(attributes: list[tuple[str, str | None]]) -> bool:
    return any(
        (name == "class" and not SKIPPED_CLASSES.isdisjoint((value or "").split()))
        or (name == "role" and value in ("navigation", "search", "note"))
        for name, value in attributes
    )
