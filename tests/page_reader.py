"""Reads a report's page as a browser would: tags, attributes, texts, tables."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The page's tags, attributes, texts and table rows; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.rows, self.tables, self.elements = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.elements.append((tag, dict(attributes)))

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in ("meta", "input"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append({"caption": "", "rows": []})
        if tag == "tr":
            self.rows.append([])
            self.tables[-1]["rows"].append(self.rows[-1])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(text)
        if "caption" in self.open:
            self.tables[-1]["caption"] += text
        elif "tr" in self.open and self.rows[-1]:
            self.rows[-1][-1] += text

    def ids(self):
        return [value for name, value in self.attributes if name == "id"]

    def sections(self):
        return [found["id"] for tag, found in self.elements if tag == "section"]


def check_alone(text):
    """The page refers to nothing outside, every reference inside has its one target."""
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed", "image"} & set(page.tags)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "data", "action", "poster", "xlink:href")
        assert not name.startswith(("on", "xmlns")) and "http" not in (value or "")
        if name == "href":
            assert value.startswith("#") and value[1:] in ids
        assert set(re.findall(r"url\(#([^)]+)\)", value or "")) <= set(ids)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    return page


def check_accessible(text):
    """Tables have captions and scopes, pictures have names, no colour stands still."""
    page = Page(text)
    assert page.tags.count("table") == page.tags.count("caption")
    assert all(table["caption"].strip() for table in page.tables)
    for tag, found in page.elements:
        if tag == "th":
            assert found["scope"] in ("col", "row", "rowgroup")
        if tag == "svg":
            assert found.get("aria-hidden") == "true" or len(found["aria-label"]) > 3
            assert not {"width", "height"} & set(found)
        if tag not in ("meta", "style"):
            assert not re.search(r"#[0-9a-fA-F]{6}\b", found.get("style", ""))
    return page
