"""What the figures draw with: lines with error bars, logarithmic axes, rows of methods.

Error bars are the sample standard deviation over seeds.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from specialm.methods import UNPRETRAINED
from specialm.reports.charts import LETTER, WIDTH, Chart, Panel
from specialm.reports.styles import PAGE, QUIET, style, text_style
from specialm.reports.summary import Cell, count, label
from specialm.reports.words import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OFF_SCALE = 1.2  # times the highest of the others: then a reference is a number, not a line
Points = Sequence[tuple[float, Cell]]  # (x, value)
Lines = Mapping[str, Points]  # {method: points}
Named = Callable[[float], str]  # the name of a tick


def draw_lines(axis: Axes, lines: Lines, methods: Iterable[str], hollow: bool = False) -> None:
    """A line with error bars for each method; dashed and hollow for what is not the main one."""
    for method, points in lines.items():
        colour, marker = style(method, methods)
        sd = [value.sd or 0.0 for _, value in points]
        axis.errorbar(
            [x for x, _ in points],
            [value.mean for _, value in points],
            yerr=sd if any(sd) else None,
            color=colour,
            marker=marker,
            capsize=2,
            linestyle="--" if hollow else "-",
            label=None if hollow else label(method),
            markerfacecolor=PAGE if hollow else colour,
        )


def perplexity_panel(
    lines: Lines,
    title: str,
    names: tuple[str, str],
    methods: Sequence[str],
    reference: Cell | None = None,
    highest: float = math.inf,
) -> Panel:
    """Lines over a logarithmic axis, and the unpretrained model's value beside them.

    Args:
      lines: {method: points}.
      title: heading.
      names: of the x and the y axis.
      methods: all of the report.
      reference: the unpretrained model's value.
      highest: value in all panels; a reference far above it is written instead of drawn.
    """
    off = reference if reference and reference.mean > OFF_SCALE * highest else None
    heading = with_remark(title, f"{off.mean:,.1f}" if off else "")

    def draw(axis: Axes) -> None:
        draw_lines(axis, lines, methods)
        axis.set(xlabel=names[0], ylabel=names[1])
        log_x(axis, [x for points in lines.values() for x, _ in points])
        if reference and not off:
            colour, _ = style(UNPRETRAINED, ())
            axis.axhline(reference.mean, color=colour, linestyle="-.", label=label(UNPRETRAINED))
        log_y(axis)

    return Panel(draw, heading)


def highest_of(lines: Lines) -> float:
    """The highest mean."""
    return max(value.mean for points in lines.values() for _, value in points)


def off_scale(lines: dict[str, list[tuple[float, Cell]]]) -> list[tuple[float, Cell]]:
    """Takes the unpretrained model's line out if it would squeeze all others together."""
    others = {m: points for m, points in lines.items() if m != UNPRETRAINED}
    mine = lines.get(UNPRETRAINED, [])
    if not others or not mine:
        return []
    if max(value.mean for _, value in mine) <= OFF_SCALE * highest_of(others):
        return []
    return lines.pop(UNPRETRAINED)


def with_remark(title: str, values: str) -> str:
    """The title, and the unpretrained model's values as a line of it: they can cover nothing."""
    remark = f"({label(UNPRETRAINED)}, off the scale: {values})" if values else ""
    return "\n".join(filter(None, (title, *textwrap.wrap(remark, 40))))


def method_chart(title: str, reading: str, panels: Sequence[Panel], methods, **options) -> Chart:
    """A chart of lines of methods."""
    order = [label(method) for method in methods]
    reading = f"{reading} Lines and points that would cover each other stand side by side."
    return Chart(title, reading, panels, order, apart=True, **options)


def log_x(axis: Axes, at: Iterable[float], base: int = 10) -> None:
    """A logarithmic x axis, labelled at these values, or at round ones if these stand close."""
    values = sorted(set(at))
    axis.set_xscale("log", base=base)
    low, high = values[0], values[-1]
    room = max((high / low) ** 0.12, 2.4 / math.sqrt(high / low), 1.1)
    axis.set_xlim(low / room, high * room)
    gaps = [math.log(b / a) for a, b in zip(values, values[1:], strict=False)]
    letters = max(len(flops_or_count(value)) for value in values)
    span = math.log(high / low * room**2)
    if not gaps or min(gaps) < span * (letters + 1) * LETTER / (WIDTH - 0.7):
        values = round_values(*axis.get_xlim())
    fixed_ticks(axis.xaxis, values, flops_or_count)


def round_values(low: float, high: float, least: int = 3, most: int = 7) -> list[float]:
    """Values like 1, 2, 5 times a power of ten within [low, high], a few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        values = [f * 10.0**p for p in powers for f in factors]
        inside = [v for v in values if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) <= most:
            found = inside
        if len(found) >= least:
            break
    return found or [low, high]


def flops_or_count(value: float) -> str:
    """950, 51.2k, 6.14M, 2.3G, 7T, 1.2P: short enough for a tick."""
    for least, unit, letter in ((999.5e12, 1e15, "P"), (999.5e9, 1e12, "T"), (999.5e6, 1e9, "G")):
        if value >= least:
            return f"{value / unit:.3g}{letter}"
    return count(value)


def fixed_ticks(axis: Any, values: Iterable[float], name: Named) -> None:
    """Ticks at these values of an axis, and no others."""
    from matplotlib import ticker

    values = list(values)
    axis.set_ticks(values, [name(value) for value in values])
    axis.set_minor_locator(ticker.NullLocator())


def log_y(axis: Axes) -> None:
    """A logarithmic y axis whose ticks are plain numbers, several also within a decade."""
    from matplotlib import ticker

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    wide = high / low > 8
    axis.yaxis.set_major_locator(
        ticker.LogLocator(10, (1, 2, 5)) if wide else ticker.MaxNLocator(6, steps=[1, 2, 5, 10])
    )
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:,.6g}"))
    axis.yaxis.set_minor_locator(ticker.NullLocator())


def method_rows(axis: Axes, methods: Sequence[str], names: Sequence[str], values) -> None:
    """A row for each method, the first on top: its name on the left, its value on the right.

    Args:
      axis: of the panel.
      methods: of the rows.
      names: all methods of the report.
      values: texts.
    """
    rows = range(len(methods))
    axis.set_yticks(list(rows), [short(label(method)) for method in methods])
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(False, axis="y")
    for tick, method in zip(axis.get_yticklabels(), methods, strict=True):
        tick.set(color=text_style(method, names), fontweight="bold")
    for row, value in zip(rows, values, strict=True):
        axis.annotate(
            value,
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontweight="bold",
            annotation_clip=False,
        )


def rows_height(rows: int) -> float:
    """Inches of a panel with so many rows."""
    return 0.62 + 0.27 * rows


def zero_line(axis: Axes, vertical: bool = True) -> None:
    """A line where nothing changes."""
    draw = axis.axvline if vertical else axis.axhline
    draw(0, color=QUIET, linewidth=0.8)


def cost_axis(axis: Axes) -> None:
    """A logarithmic y axis of FLOPs, at round numbers."""
    axis.set_yscale("log")
    fixed_ticks(axis.yaxis, round_values(*axis.get_ylim(), most=6), flops_or_count)
