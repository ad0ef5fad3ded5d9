"""A figure's SVG for the inside of a page: colours are the page's variables, ids are unique."""

import re
from xml.etree import ElementTree

from specialm.reports.styles import Palette
from specialm.reports.words import printable

LINK = "{http://www.w3.org/1999/xlink}href"
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline(svg: str, palette: Palette, prefix: str, name: str) -> str:
    """The SVG as an element of a page, as wide as its place; `name` is what a reader hears.

    Args:
      svg: as matplotlib writes it.
      palette: of the page.
      prefix: of all ids; unique in the page.
      name: of the picture, "" for one that only decorates.

    Raises:
      ValueError: a colour is not in the palette, so that it would not follow the page.
    """
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    used = _references(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _adapt(element, palette, prefix, used)
    root.attrib = {"viewBox": root.get("viewBox", ""), **_role(name)}
    return ElementTree.tostring(root, encoding="unicode")


def _references(root: ElementTree.Element) -> set[str]:
    """The ids that something in the picture points to."""
    links = {element.get(LINK, "")[1:] for element in root.iter()}
    texts = " ".join(value for element in root.iter() for value in element.attrib.values())
    return links | set(REFERENCE.findall(texts))


def _adapt(element: ElementTree.Element, palette: Palette, prefix: str, used: set[str]) -> None:
    attributes = {}
    for key, value in element.attrib.items():
        if key == "id":
            if value in used:
                attributes["id"] = prefix + value
        elif key == LINK:
            attributes["href"] = f"#{prefix}{value[1:]}"
        else:
            value = REFERENCE.sub(rf"url(#{prefix}\1)", value)
            attributes[key] = COLOUR.sub(lambda found: _variable(palette, found[0]), value)
    element.attrib = attributes


def _variable(palette: Palette, colour: str) -> str:
    if colour not in palette.variables:
        raise ValueError(f"a figure has the colour {colour}, which is none of the page's")
    return f"var(--{palette.variables[colour]})"


def _role(name: str) -> dict[str, str]:
    return {"role": "img", "aria-label": printable(name)} if name else {"aria-hidden": "true"}
