"""How things look: the one table of colours, light and dark, and each method's colour and marker.

Figures are drawn in the light theme's colours. On a page every colour is a variable of the style
sheet, which the reader's setting fills in: `Palette` says which colour is which variable.
"""

import colorsys
from collections.abc import Iterable, Sequence

from specialm import methods

# (light, dark) of each variable of the style sheet.
COLOURS = {
    "page": ("#ffffff", "#14161a"),  # the background
    "panel": ("#f5f6f8", "#1c1f26"),  # of cards and of the macro column
    "good": ("#eaf2fb", "#1a2a3d"),  # of the answer
    "ink": ("#17191e", "#e8eaee"),
    "quiet": ("#565d6b", "#a2a9b6"),  # notes, axes
    "rule": ("#dcdfe5", "#343943"),  # the grid
    "specialist": ("#0060b8", "#62b0ff"),
    "generic": ("#6b7280", "#98a0ae"),
}
LIGHT, DARK = COLOURS["page"]
PAGE, INK, QUIET, RULE, SPECIALIST, GENERIC = (
    COLOURS[name][0] for name in ("page", "ink", "quiet", "rule", "specialist", "generic")
)
# (colour, marker) of methods that are not in `methods.METHODS`, by their place among those.
OTHERS = (("#332288", "p"), ("#DDCC77", "1"), ("#661100", "2"), ("#6699CC", "3"))
TEXT_CONTRAST, MARK_CONTRAST = 4.5, 3.0  # the least, WCAG 2.1 level AA


def style(method: str, names: Iterable[str]) -> tuple[str, str]:
    """(colour of lines and dots, marker) of a method in a figure.

    Args:
      method: the name in rows.
      names: all methods that are shown; an unknown one's look follows from its place among the
        unknown.
    """
    colour, marker = _look(method, names)
    colour = mark(colour, LIGHT)
    return "#010101" if colour == "#000000" else colour, marker  # SVG leaves black out


def text_style(method: str, names: Iterable[str]) -> str:
    """The colour of a method's name in a figure."""
    colour = _look(method, names)[0]
    shade = text(colour, LIGHT)
    # A little off, so that it is never that of the lines: on a dark page the two may differ.
    return f"{shade[:-1]}{int(shade[-1], 16) ^ 2:x}"


def _look(method: str, names: Iterable[str]) -> tuple[str, str]:
    record = methods.find(method)
    if record:
        return record.colour, record.marker
    unknown = sorted(name for name in {*names, method} if methods.find(name) is None)
    return OTHERS[unknown.index(method) % len(OTHERS)]


class Palette:
    """The variables of a page on these methods: `--c0` of the first one's lines, `--t0` its text.

    Attributes:
      variables: {colour in a figure: variable}.
    """

    def __init__(self, names: Sequence[str]):
        self._values = dict(COLOURS)
        self.variables = {light: name for name, (light, _) in COLOURS.items()}
        for i, name in enumerate(names):
            colour = _look(name, names)[0]
            self._values[f"c{i}"] = mark(colour, LIGHT), mark(colour, DARK)
            self._values[f"t{i}"] = text(colour, LIGHT), text(colour, DARK)
            self.variables.setdefault(style(name, names)[0], f"c{i}")
            self.variables.setdefault(text_style(name, names), f"t{i}")

    def sheet(self) -> str:
        """The variables as CSS, light, and dark on a screen whose reader prefers it."""
        light, dark = (
            "".join(f"--{name}:{pair[i]};" for name, pair in self._values.items()) for i in (0, 1)
        )
        return f":root{{{light}}}@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def mark(colour: str, background: str) -> str:
    """The colour of lines and dots: until it can be seen darker or lighter, a grey inverted."""
    if contrast(colour, background) >= MARK_CONTRAST:
        return colour.lower()
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    if background == DARK and saturation == 0:
        lightness = max(lightness, 1 - lightness)
    return _seen(hue, lightness, saturation, background, MARK_CONTRAST)


def text(colour: str, background: str) -> str:
    """The colour of marks, darker on a light page, lighter on a dark one, until it can be read."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(mark(colour, background)))
    return _seen(hue, lightness, saturation, background, TEXT_CONTRAST)


def _seen(hue: float, lightness: float, saturation: float, background: str, least: float) -> str:
    step = -0.01 if background == LIGHT else 0.01
    while contrast(_hex(hue, lightness, saturation), background) < least:
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
