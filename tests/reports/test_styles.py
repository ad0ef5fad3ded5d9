"""Colours: each can be seen and read on both pages, no two methods look alike."""

import itertools
import re
from importlib.resources import files

import pytest

from specialm.methods import METHODS
from specialm.reports import styles

THEMES = [0, 1]  # light and dark, as in styles.COLOURS
NAMES = [*METHODS, "mine", "yours"]
CSS = (files("specialm.reports") / "report.css").read_text()


def test_contrast_is_that_of_wcag():
    assert styles.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert styles.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert styles.contrast("#ffffff", "#777777") == styles.contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read_on_every_background(theme):
    colours = {name: pair[theme] for name, pair in styles.COLOURS.items()}
    for background in ("page", "panel", "good"):
        for name in ("ink", "quiet", "specialist"):
            assert styles.contrast(colours[name], colours[background]) >= 4.5, (name, background)
    assert styles.contrast(colours["generic"], colours["page"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_lines_can_be_seen_and_names_read(theme):
    page = styles.COLOURS["page"][theme]
    for name in NAMES:
        values = styles.Palette([name])._values
        assert styles.contrast(values["c0"][theme], page) >= 3, name
        assert styles.contrast(values["t0"][theme], page) >= 4.5, name


def test_figures_in_files_have_the_colours_of_the_light_page():
    for name in NAMES:
        assert styles.contrast(styles.style(name, NAMES)[0], "#ffffff") >= 3
        assert styles.contrast(styles.text_style(name, NAMES), "#ffffff") >= 4.4


@pytest.mark.parametrize("theme", THEMES)
def test_no_two_methods_look_alike(theme):
    """All markers differ, and so do all colours, by more than a shade."""
    values = styles.Palette(list(METHODS))._values
    for a, b in itertools.combinations(range(len(METHODS)), 2):
        one, other = (styles._rgb(values[f"c{i}"][theme]) for i in (a, b))
        apart = sum((x - y) ** 2 for x, y in zip(one, other, strict=True)) ** 0.5
        assert apart > 0.12, (list(METHODS)[a], list(METHODS)[b])
    markers = [styles.style(name, NAMES)[1] for name in NAMES]
    assert len(set(markers)) == len(NAMES)


def test_unknown_methods_take_turns():
    found = [styles.style(m, ["slm", "b", "a"]) for m in ("a", "b")]
    assert found == list(zip(("#332288", "#a69129"), ("p", "1"), strict=True))
    assert styles.style("slm", ["mine"])[1] == METHODS["slm"].marker


def test_every_variable_of_the_style_sheet_is_a_colour_of_the_table():
    assert set(re.findall(r"var\(--([\w-]+)\)", CSS)) <= set(styles.COLOURS)
    assert not re.findall(r"#[0-9a-f]{3,6}\b", CSS.partition("@media print")[0])


def test_the_sheet_has_both_themes_and_paper_is_light():
    sheet = styles.Palette(["slm"]).sheet()
    light, _, dark = sheet.partition("@media screen and (prefers-color-scheme: dark)")
    assert "--page:#ffffff;" in light and "--c0:#000000;" in light
    assert f"--page:{styles.DARK};" in dark and "--c0:#ffffff;" in dark


def test_lines_and_names_of_a_method_are_two_variables():
    for name in NAMES:
        palette = styles.Palette([name])
        assert palette.variables[styles.style(name, NAMES[:1])[0]] == "c0"
        assert palette.variables[styles.text_style(name, NAMES[:1])] == "t0"
