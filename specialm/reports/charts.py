"""A chart is panels side by side: one SVG each on a page, one figure in a file for a paper.

Panels draw themselves on matplotlib's axes. matplotlib is imported when something is drawn, never
before. The same rows give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specialm.reports import styles
from specialm.reports.apart import set_apart
from specialm.reports.words import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.4, 2.45  # inches of a panel: as wide as a telephone's screen at 96 to the inch
LETTER = 0.075  # inches, about, of the mean letter at 8 points
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": styles.QUIET,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": styles.QUIET,
    "axes.labelsize": 8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same everywhere
    "font.size": 8,
    "grid.color": styles.RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "specialm",
    "text.color": styles.INK,
    "text.parse_math": False,  # a name may have dollars
    "xtick.color": styles.QUIET,
    "ytick.color": styles.QUIET,
}


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what is drawn on it, and its heading."""

    draw: Callable[[Axes], None]
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of a report.

    Attributes:
      title: what it shows.
      reading: how to read it.
      panels: at least one.
      order: labels of the legend, in the order that they should have.
      height: of a panel, in inches.
      share_y: all panels have one y axis.
      apart: lines that cover each other are moved apart by a few points.
    """

    title: str
    reading: str
    panels: Sequence[Panel]
    order: Sequence[str] = ()
    height: float = HEIGHT
    share_y: bool = False
    apart: bool = False


def on_page(chart: Chart) -> tuple[list[str], list[tuple[str, str]]]:
    """([SVG of each panel], [(SVG of the key, label) of each entry of the legend])."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figures = _panels_apart(chart)
        entries = legend_entries(chart, [figure.axes[0] for figure in figures])
        keys = [(svg(_key(handle)), label) for label, handle in entries]
        return [svg(figure) for figure in figures], keys


def in_files(chart: Chart, endings: Sequence[str]) -> dict[str, bytes]:
    """{ending: the whole chart} as "pdf", "svg" or "png", legend below; a PNG is on white."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = on_paper(chart)
        return {ending: _saved(figure, ending, chart.title) for ending in endings}


def on_paper(chart: Chart) -> Figure:
    """The whole chart as one figure, at most three panels in a row."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        columns = 2 if len(chart.panels) == 4 else min(3, len(chart.panels))
        rows = math.ceil(len(chart.panels) / columns)
        figure = Figure(figsize=(WIDTH * columns, chart.height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=chart.share_y).ravel()
        axes = list(grid[: len(chart.panels)])
        for unused in grid[len(chart.panels) :]:
            unused.remove()
        _draw(chart, axes)
        _add_legend(figure, legend_entries(chart, axes))
        _finish(chart, figure)
        return figure


def _panels_apart(chart: Chart) -> list[Figure]:
    from matplotlib.figure import Figure

    size = (WIDTH, chart.height)
    figures = [Figure(figsize=size, layout="constrained") for _ in chart.panels]
    axes = [figure.subplots() for figure in figures]
    _draw(chart, axes)
    if chart.share_y:
        limits = [axis.get_ylim() for axis in axes]
        for axis in axes:
            axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for figure in figures:
        _finish(chart, figure)
    return figures


def _draw(chart: Chart, axes: Sequence[Axes]) -> None:
    lines = max(panel.title.count("\n") for panel in chart.panels)
    for panel, axis in zip(chart.panels, axes, strict=True):
        axis.set_title("\n" * (lines - panel.title.count("\n")) + panel.title)
        panel.draw(axis)


def _finish(chart: Chart, figure: Figure) -> None:
    """What depends on where things came to lie: ticks without room go, lines move apart."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text()))
    figure.draw_without_rendering()
    for axis in figure.axes:
        _thin_ticks(axis.xaxis)
        _thin_ticks(axis.yaxis)
        if chart.apart:
            set_apart(axis)


def _thin_ticks(axis: Any) -> None:
    """Leaves out the labels that would touch the one before."""
    low, high = sorted(axis.get_view_interval())
    labels = [
        tick.label1
        for tick in axis.get_major_ticks()
        if tick.label1.get_text() and low <= tick.get_loc() <= high
    ]
    boxes = [(label, label.get_window_extent()) for label in labels]
    last = None
    for label, box in sorted(boxes, key=lambda found: (found[1].x0, found[1].y0)):
        if last is not None and last.padded(2).overlaps(box):
            label.set_visible(False)
        else:
            last = box


def legend_entries(chart: Chart, axes: Iterable[Axes]) -> list[tuple[str, Any]]:
    """[(label, handle)] of all panels, each label once, those of `order` first."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    names = [name for name in dict.fromkeys(chart.order) if name in handles]
    names += [name for name in handles if name not in names]
    return [(name, handles[name]) for name in names]


def _add_legend(figure: Figure, entries: Sequence[tuple[str, Any]]) -> None:
    """Below all panels, in as many columns as fit; the figure grows by its rows."""
    if not entries:
        return
    width, height = figure.get_size_inches()
    columns = max(1, int(width / (0.6 + LETTER * max(len(name) for name, _ in entries))))
    figure.set_size_inches(width, height + 0.2 * math.ceil(len(entries) / columns))
    figure.legend(
        handles=[handle for _, handle in entries],
        labels=[name for name, _ in entries],
        loc="outside lower center",
        ncols=min(columns, len(entries)),
    )


def _key(handle: Any) -> Figure:
    """The mark of one entry of a legend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.36, 0.16))
    figure.legend(
        handles=[handle],
        labels=[""],
        loc="center",
        borderpad=0,
        borderaxespad=0,
        handlelength=2.4,
        handletextpad=0,
    )
    return figure


def method_key(method: str, names: Iterable[str]) -> str:
    """SVG of a method's line and marker."""
    import matplotlib
    from matplotlib.lines import Line2D

    colour, marker = styles.style(method, names)
    with matplotlib.rc_context(STYLE):
        return svg(_key(Line2D([], [], color=colour, marker=marker)))


def svg(figure: Figure) -> str:
    """A figure as matplotlib writes it, without dates."""
    return _saved(figure, "svg").decode("utf-8")


def _saved(figure: Figure, ending: str, title: str | None = None) -> bytes:
    without = {"svg": ("Creator", "Date", "Format", "Type"), "pdf": ("Producer", "CreationDate")}
    metadata = dict.fromkeys(without.get(ending, ("Software",)))
    metadata |= {"Title": printable(title)} if title else {}
    options: dict[str, Any] = {"facecolor": styles.PAGE, "dpi": 160} if ending == "png" else {}
    stream = io.BytesIO()
    figure.savefig(stream, format=ending, metadata=metadata, **options)
    return stream.getvalue()
