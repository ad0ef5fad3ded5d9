"""Text of HTML pages: the blocks that are prose, without navigation, code, tables of figures."""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser

from specialm.data.corpora.extractors import FUNCTION_WORDS, parts
from specialm.data.corpora.prose import pack, tidy
from specialm.data.documents import Document

Files = Iterable[tuple[str, bytes]]  # (name, content) of an archive, in its order

# Cut out before a page is parsed: most of the bytes of API references are coloured code.
CODE = re.compile(r"<(pre|script|style|svg|math|head)\b[^>]*>.*?</\1\s*>", re.DOTALL | re.I)
SKIPPED = frozenset("nav header footer aside form button select textarea title".split())
SKIPPED_CLASSES = re.compile(
    r"\b(navheader|navfooter|sphinxsidebar|related|headerlink|copiable-(anchor|link)|toc|"
    r"clearer|nav-panel|header|footer|indextable|genindextable|index-fn|pi|MathJax_\w+|up|apidocs)\b"
)
BLOCKS = frozenset(
    "p li dd dt td th tr table h1 h2 h3 h4 h5 h6 div section article blockquote caption figcaption "
    "ul ol dl body hr".split()
)
NUMBER = re.compile(r"^(Chapter|Appendix)?\s*([\dA-Z]\d*\.)?[\d.-]*\s+|\s*[¶#]$")  # of a heading
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
VOID = frozenset("br hr img input meta link area base col embed source track wbr".split())


def html_pages(files: Files) -> Iterator[Document]:
    """Extract HTML pages, each a group; a block that occurred before in the source is dropped."""
    seen: set[str] = set()
    for name, content in files:
        blocks = unseen(html_prose(content.decode("utf-8", "replace")), seen)
        yield from parts(re.sub(r"\.x?html?$", "", name), pack(blocks))


def unseen(blocks: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Yield the blocks that are not in `seen`, to which they are added."""
    for block in blocks:
        if block not in seen:
            seen.add(block)
            yield block


def html_prose(page: str) -> Iterator[str]:
    """Yield the blocks of a page that are sentences, and the headings in front of them."""
    parser = _Parser()
    parser.feed(CODE.sub("", page))
    parser.close()
    heading = ""
    for tag, text in parser.blocks():
        if tag in HEADINGS:
            heading = text
        elif is_prose(text):
            if heading:
                yield NUMBER.sub("", heading)
                heading = ""
            yield text


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
        (name == "class" and value is not None and SKIPPED_CLASSES.search(value) is not None)
        or (name == "role" and value in ("navigation", "search", "note"))
        for name, value in attributes
    )
