"""How a method looks: one colour and marker, in the figures and on the page alike."""

import colorsys
from collections.abc import Iterable, Sequence

from specialm import methods

# (colour, marker) of methods that are not in `methods.METHODS`, by their place among those.
OTHERS = (("#332288", "p"), ("#117733", "8"), ("#AA4499", "H"), ("#DDCC77", "1"))
LIGHT, DARK = "#ffffff", "#14161a"  # the page's backgrounds, as in report.css
TEXT_CONTRAST, MARK_CONTRAST = 4.5, 3.0  # the least, WCAG 2.1 level AA


def style(method: str, names: Iterable[str]) -> tuple[str, str]:
    """(colour, marker): of the method's record; an unknown one's by its place among the unknown.

    Args:
      method: the name in rows.
      names: all methods that are shown.
    """
    record = methods.find(method)
    if record:
        return record.colour, record.marker
    unknown = sorted(name for name in set(names) if methods.find(name) is None)
    return OTHERS[unknown.index(method) % len(OTHERS)]


def sheet(names: Sequence[str]) -> str:
    """The style sheet of a page on these methods: class `m0` for the first, `m1`, ...

    `--c` is the colour of lines and dots, as in the figures, `--t` that of text.
    """
    colours = [style(name, names)[0] for name in names]
    light, dark = (
        "".join(
            f".m{i}{{--c:{mark(colour, page)};--t:{text(colour, page)}}}"
            for i, colour in enumerate(colours)
        )
        for page in (LIGHT, DARK)
    )
    return f"{light}@media screen and (prefers-color-scheme: dark){{{dark}}}"


def mark(colour: str, background: str) -> str:
    """The colour of lines and dots: its lightness inverted if it would vanish on a dark page."""
    if background == LIGHT or contrast(colour, background) >= MARK_CONTRAST:
        return colour
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    return _hex(hue, 1 - lightness, saturation)


def text(colour: str, background: str) -> str:
    """The colour of marks, darker on a light page, lighter on a dark one, until it can be read."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(mark(colour, background)))
    step = -0.01 if background == LIGHT else 0.01
    while contrast(_hex(hue, lightness, saturation), background) < TEXT_CONTRAST:
        lightness += step
    return _hex(hue, lightness, saturation)


def contrast(a: str, b: str) -> float:
    """The contrast ratio of two colours, 1 to 21, as WCAG 2.1 defines it."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hex(hue: float, lightness: float, saturation: float) -> str:
    rgb = colorsys.hls_to_rgb(hue, min(max(lightness, 0.0), 1.0), saturation)
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)
