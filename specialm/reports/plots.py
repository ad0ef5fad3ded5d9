"""Drawing for the figures of a study: panels, lines with error bars, legends, logarithmic axes.

Error bars are the sample standard deviation over seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specialm.common.errors import UserError
from specialm.methods import UNPRETRAINED
from specialm.reports.styles import style
from specialm.reports.summary import Cell, count, label

try:
    from matplotlib import ticker
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as missing:
    raise UserError(
        "matplotlib is not installed, and the figures of a study need it: "
        "pip install 'specialm[report]'."
    ) from missing

WIDE, NARROW = 10.0, 7.5  # inches, of several panels and of one
OFF_SCALE = 1.2  # times the highest of the others: then a reference is a number, not a line
TOKENS = "Pretraining tokens"
GRID, BLACK = "#E5E5E5", "#000000"

Lines = Mapping[str, Sequence[tuple[float, Cell]]]  # {method: [(x, value)]}


@dataclass(frozen=True)
class Panel:
    """One panel: lines over a logarithmic axis, and the unpretrained model's value beside them."""

    lines: Lines
    title: str
    x_name: str
    reference: Cell | None = None


def perplexity_panels(
    panels: Iterable[Panel], title: str, y_name: str, methods: Sequence[str]
) -> Figure | None:
    """The panels that have lines, on one perplexity axis; None without any."""
    panels = [panel for panel in panels if panel.lines]
    if not panels:
        return None
    figure, axes = new_figure(len(panels), title, share=True)
    highest = max(_highest(panel.lines) for panel in panels)
    for axis, panel in zip(axes, panels, strict=True):
        draw(axis, panel.lines, methods)
        axis.set(title=panel.title, xlabel=panel.x_name, xscale="log")
        _panel_ticks(axis, panel)
        if panel.reference:
            _draw_reference(axis, panel.reference, highest)
    axes[0].set_ylabel(y_name)
    log_y(axes[0])
    return with_legend(figure, axes, methods)


def _highest(lines: Lines) -> float:
    return max(value.mean for points in lines.values() for _, value in points)


def _panel_ticks(axis: Axes, panel: Panel) -> None:
    """At the points of a token axis, else two labels a decade, and a decade at least."""
    x = [at for points in panel.lines.values() for at, _ in points]
    if panel.x_name == TOKENS:
        log_x(axis, x)
    elif max(x) < 100 * min(x):
        middle = np.sqrt(min(x) * max(x))
        if max(x) < 12 * min(x):
            axis.set_xlim(middle / 4, middle * 4)
        axis.xaxis.set_major_locator(ticker.LogLocator(10, (1, 3)))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _draw_reference(axis: Axes, value: Cell, highest: float) -> None:
    """The unpretrained model as a line, or as a number where it is off the scale."""
    if value.mean > OFF_SCALE * highest:
        remark(axis, f"{value.mean:,.1f}")
        return
    colour, _ = style(UNPRETRAINED, ())
    axis.axhline(value.mean, color=colour, linestyle="-.", label=label(UNPRETRAINED))


def off_scale(lines: dict[str, list[tuple[float, Cell]]]) -> list[tuple[float, Cell]]:
    """Takes the unpretrained model's line out if it would squeeze all others together."""
    others = {m: points for m, points in lines.items() if m != UNPRETRAINED}
    mine = lines.get(UNPRETRAINED, [])
    if not others or not mine:
        return []
    if max(value.mean for _, value in mine) <= OFF_SCALE * _highest(others):
        return []
    return lines.pop(UNPRETRAINED)


def remark(axis: Axes, text: str) -> None:
    """What is off the scale, as a line of the panel's title: it can cover nothing there."""
    lines = [axis.get_title(), f"({label(UNPRETRAINED)}, off the scale: {text})"]
    axis.set_title("\n".join(filter(None, lines)), fontsize=10)


def draw(axis: Axes, lines: Lines, methods: Iterable[str], hollow: bool = False) -> None:
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
            capsize=2.5,
            linestyle="--" if hollow else "-",
            label=None if hollow else label(method),
            markerfacecolor="white" if hollow else colour,
        )


def new_figure(
    columns: int, title: str, height: float = 4.6, share: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of page width, or narrower for one panel, and the axes of its panels.

    Args:
      columns: panels, side by side.
      title: of the whole figure.
      height: inches.
      share: one y axis for all panels.
    """
    figure = Figure(figsize=(NARROW if columns == 1 else WIDE, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=share).ravel()
    figure.suptitle(title, fontsize=13, fontweight="bold")
    for axis in axes:
        axis.grid(True, color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def with_legend(figure: Figure, axes: Iterable[Axes], methods: Iterable[str]) -> Figure:
    """The figure with one legend below all panels, in the methods' order."""
    handles: dict = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    names = [n for n in dict.fromkeys(map(label, methods)) if n in handles]
    names += [n for n in handles if n not in names]
    columns = 6 if figure.get_figwidth() > NARROW else 4
    figure.legend(
        handles=[handles[n] for n in names],
        labels=names,
        loc="outside lower center",
        frameon=False,
        ncols=min(columns, len(names)),
    )
    return figure


def log_x(axis: Axes, at: Iterable[float], base: int = 10) -> None:
    """A logarithmic x axis with ticks at these values."""
    axis.set_xscale("log", base=base)
    ticks = sorted(set(at))
    axis.set_xticks(ticks, [count(x) for x in ticks])
    axis.xaxis.set_minor_locator(ticker.NullLocator())


def log_y(axis: Axes) -> None:
    """A logarithmic y axis whose ticks are plain numbers, several also within a decade."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    wide = high / low > 8
    axis.yaxis.set_major_locator(
        ticker.LogLocator(10, (1, 2, 5)) if wide else ticker.MaxNLocator(7, steps=[1, 2, 5, 10])
    )
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda y, _: f"{y:,.6g}"))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    if not wide:
        axis.yaxis.set_minor_locator(ticker.NullLocator())
