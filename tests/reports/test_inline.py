"""SVG inside a page: variables for colours, ids of its own, nothing else."""

import re
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.figure import Figure

from specialm.reports import charts, styles
from specialm.reports.inline import inline

PALETTE = styles.Palette(["slm", "mine"])


def drawn(colour):
    with matplotlib.rc_context(charts.STYLE):
        axis = (figure := Figure(layout="constrained")).subplots()
        axis.plot([1, 2], [1, 3], "o-", color=colour)
        axis.set_title("a < b & c")
        return charts.svg(figure)


def test_colours_are_variables_and_ids_have_the_prefix():
    text = inline(drawn(styles.style("mine", ["mine"])[0]), PALETTE, "one-", "A name")
    assert not re.search("#[0-9a-f]{6}", text) and "var(--c1)" in text and "var(--ink)" in text
    root = ElementTree.fromstring(text)
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    targets = set(re.findall(r'(?:href="#|url\(#)([^)"]+)', text))
    assert ids and set(ids) == targets and all(i.startswith("one-") for i in ids)
    assert root.get("aria-label") == "A name" and root.get("role") == "img"
    assert {"width", "height"}.isdisjoint(root.attrib) and root.get("viewBox")
    assert "http" not in text and "<style" not in text and "a &lt; b &amp; c" in text


def test_the_background_is_the_page():
    """No white box on a dark page: neither the figure nor the axes are filled."""
    root = ElementTree.fromstring(inline(drawn("#010101"), PALETTE, "x-", ""))
    assert root.get("aria-hidden") == "true"
    first = [e for e in root.iter() if e.tag == "path"][:2]
    assert all("fill: none" in e.get("style") for e in first)


def test_a_colour_that_would_not_follow_the_page_is_an_error():
    with pytest.raises(ValueError, match="#ff0000"):
        inline(drawn("#ff0000"), PALETTE, "x-", "")


def test_the_same_figure_gives_the_same_bytes():
    assert drawn("#010101") == drawn("#010101")
