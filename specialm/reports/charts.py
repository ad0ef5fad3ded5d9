"""The report's charts as small hand-written SVG: they follow the page's colours, light or dark.

Every chart is one panel, WIDTH units wide, so that it can stand three abreast on a wide screen
and alone on a telephone with its letters at a readable size. Colours come from the page's style
sheet: class `m0`, `m1`, ... for methods, `generic` and `specialist` for the two sets.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from specialm.reports.markup import clean
from specialm.reports.summary import Cell, count, number, signed_percent, spread

WIDTH = 360
LETTER = 6.1  # mean width of a letter at the charts' 11 px
MOST_POINTS = 80  # of one training curve; more are averaged in buckets
ROW = 28  # height of a method's row
TOP, BOTTOM, HEIGHT = 34, 194, 230  # of the plotted area, and of the whole panel

Scale = Callable[[float], float]  # from a value to its place
Dots = tuple[str, str, Cell | None, Cell | None]  # label, colour class, before, after
Changes = tuple[str, str, Sequence[float], Cell]  # label, colour class, of each seed, their Cell
Line = tuple[str, str, Sequence[float], Sequence[float]]  # label, colour class, x_N, loss_N


def dots(rows: Sequence[Dots], title: str) -> str:
    """Each method's perplexity before (ring) and after (dot) fine-tuning, on a log scale.

    Args:
      rows: a method each; before or after may be None.
      title: heading of the panel.
    """
    cells = [c for _, _, before, after in rows for c in (before, after) if c]
    low = min(c.mean - (c.sd or 0) for c in cells)
    low = low if low > 0 else min(c.mean for c in cells)
    scale, ticks = _log_scale(low, max(c.mean + (c.sd or 0) for c in cells))
    values = [next(spread(c) for c in (row[3], row[2]) if c) for row in rows]
    left, right = _room([row[0] for row in rows], values)
    x = _linear(scale, (left + 8, right - 10))
    height = _rows_height(rows)
    parts = [_x_rule(x(t), height, name) for t, name in ticks]
    for i, (row, value) in enumerate(zip(rows, values, strict=True)):
        parts += _dots_row(row, value, 44 + ROW * i, lambda v: x(math.log(max(v, low))))
    return _panel(title, height, parts)


def _dots_row(row: Dots, value: str, y: float, x: Scale) -> list[str]:
    name, colour, before, after = row
    parts = [_text(0, y + 4, name, f"name {colour}")]
    if before and after:
        parts.append(_horizontal(f"link {colour}", x(before.mean), x(after.mean), y))
    for kind, cell in (("ring", before), ("dot", after)):
        if cell and cell.sd:
            ends = x(cell.mean - cell.sd), x(cell.mean + cell.sd)
            parts.append(_horizontal(f"spread {colour}", *ends, y))
        if cell:
            parts.append(
                f'<circle class="{kind} {colour}" cx="{x(cell.mean):.1f}" cy="{y}" '
                f'r="5"><title>{clean(name)}: {spread(cell)}</title></circle>'
            )
    return [*parts, _text(WIDTH - 4, y + 4, value, "value", "end")]


def differences(rows: Sequence[Changes], title: str) -> str:
    """Each method's change against the base, a mark per seed and a bar at the mean.

    Args:
      rows: a method each; relative differences.
      title: heading of the panel.
    """
    values = [0.0, *(d for _, _, seeds, _ in rows for d in seeds)]
    pad = 0.08 * (max(values) - min(values)) or 0.01
    low, high = min(values) - pad, max(values) + pad
    left, right = _room([row[0] for row in rows], [signed_percent(row[3]) for row in rows])
    x = _linear((low, high), (left + 8, right - 8))
    height = _rows_height(rows)
    parts = [_change_rule(t, x(t), height) for t in _ticks(low, high, 2)]
    for i, row in enumerate(rows):
        parts += _changes_row(row, 44 + ROW * i, x)
    return _panel(title, height, parts)


def _change_rule(change: float, x: float, height: float) -> str:
    if abs(change) < 1e-9:
        return _x_rule(x, height, "0", "zero")
    return _x_rule(x, height, f"{100 * change:+.3g}%".replace("-", "−"))


def _changes_row(row: Changes, y: float, x: Scale) -> list[str]:
    name, colour, seeds, mean = row
    at = f"{x(mean.mean):.1f}"
    return [
        _text(0, y + 4, name, f"name {colour}"),
        f'<line class="mean {colour}" x1="{at}" x2="{at}" y1="{y - 9}" y2="{y + 9}"/>',
        *(f'<circle class="seed {colour}" cx="{x(d):.1f}" cy="{y}" r="4"/>' for d in seeds),
        _text(WIDTH - 4, y + 4, signed_percent(mean), "value", "end"),
    ]


def curves(lines: Sequence[Line], title: str, x_name: str, best: bool = False) -> str:
    """Learning curves: loss in nats per token against tokens or steps.

    The first steps, where the loss falls from ln(vocabulary), run off the top.

    Args:
      lines: a curve each; lines of one label are its seeds.
      title: heading of the panel.
      x_name: what x counts.
      best: mark each line's lowest point, and draw every point.
    """
    most = max(len(x_N) for _, _, x_N, _ in lines) if best else MOST_POINTS
    thin = [(name, colour, *_thin(x_N, loss_N, most)) for name, colour, x_N, loss_N in lines]
    right = WIDTH - 14 - LETTER * max(len(name) for name, *_ in thin)
    last = max(x_P[-1] for _, _, x_P, _ in thin)
    low, high = _loss_range(thin, last)
    x, y = _linear((0, last), (34, right)), _linear((low, high), (BOTTOM, TOP))
    parts = [_y_rule(34, right, y(t), f"{t:.3g}") for t in _ticks(low, high, 4)]
    parts += [_text(x(t), BOTTOM + 16, count(t), "tick", "middle") for t in _ticks(0, last, 3)]
    parts.append(_x_name(34, right, x_name))
    drawn = "".join(_curve(line, x, y, best) for line in thin)
    # A nested svg clips what runs off the top.
    size = f'width="{WIDTH}" height="{BOTTOM - TOP + 4}"'
    parts.append(f'<svg x="0" y="{TOP}" {size}>{drawn}</svg>')
    return _panel(title, HEIGHT, [*parts, *_curve_names(thin, right + 7, y)])


def _loss_range(lines: Sequence[tuple], last: float) -> tuple[float, float]:
    """The losses shown: all but those of the first steps, with some room."""
    low = min(loss_P.min() for *_, loss_P in lines)
    high = max(np.interp(0.08 * last, x_P, loss_P) for _, _, x_P, loss_P in lines)
    high = max(high, *(loss_P[-1] for *_, loss_P in lines), low + 0.05)
    pad = 0.05 * (high - low)
    return low - pad, high + pad


def _curve(line: tuple, x: Scale, y: Scale, best: bool) -> str:
    _, colour, x_P, loss_P = line
    points = " ".join(f"{x(a):.1f},{y(b) - TOP:.1f}" for a, b in zip(x_P, loss_P, strict=True))
    drawn = f'<polyline class="curve {colour}" points="{points}"/>'
    if not best:
        return drawn
    i = int(np.argmin(loss_P))
    at = f'cx="{x(x_P[i]):.1f}" cy="{y(loss_P[i]) - TOP:.1f}"'
    return f'{drawn}<circle class="dot {colour}" {at} r="3"/>'


def _curve_names(lines: Sequence[tuple], x: float, y: Scale) -> list[str]:
    """Each label at the mean height of its lines' ends, pushed apart."""
    ends: dict[tuple[str, str], list[float]] = {}
    for name, colour, _, loss_P in lines:
        ends.setdefault((name, colour), []).append(y(loss_P[-1]))
    names = sorted((float(np.mean(at)), name, colour) for (name, colour), at in ends.items())
    heights = _apart([at for at, _, _ in names], 13, TOP, BOTTOM)
    return [
        _text(x, at + 4, name, f"name {colour}")
        for (_, name, colour), at in zip(names, heights, strict=True)
    ]


def histograms(generic_K, specialist_K, weights_K, title: str) -> str:
    """Cluster shares of the specialist set (up) and of the generic set (down), by weight.

    Clusters stand from the highest weight on the left to the lowest. Both axes are square roots:
    across, of the rank, so that the few clusters of high weight have room beside the many of low
    weight; in height, of the share, so that a share of 0.1% can be seen beside one of 10%.
    """
    up_K, down_K = _by_weight(weights_K, specialist_K, generic_K)
    k, left, right = len(up_K), 40, WIDTH - 4
    # Each half has the room its highest bar needs.
    unit = (BOTTOM - TOP) / ((math.sqrt(up_K.max()) + math.sqrt(down_K.max())) or 1.0)
    middle = TOP + unit * math.sqrt(up_K.max())
    edge_K = left + (right - left) * np.sqrt(np.arange(k + 1) / k)
    parts = [
        *_bars("specialist", up_K, edge_K, middle, -unit),
        *_bars("generic", down_K, edge_K, middle, unit),
        f'<line class="zero" x1="{left}" x2="{right}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
        _text(left - 6, middle + 4, "0", "tick", "end"),
        _text(right - 70, 15, "↑ domain", "name specialist", "end"),
        _text(right, 15, "↓ generic", "name generic", "end"),
    ]
    for rank in (r for r in (1, 10, 50, 200, 1000) if r <= k):
        middle_of_bar = (edge_K[rank - 1] + edge_K[rank]) / 2
        parts.append(_text(middle_of_bar, BOTTOM + 16, str(rank), "tick", "middle"))
    return _panel(title, HEIGHT, [*parts, _x_name(left, right, "cluster, by weight")])


def _bars(name: str, share_K: np.ndarray, edge_K: np.ndarray, middle: float, unit: float) -> list:
    """Rules at round shares, then the bars: upwards for a negative unit."""
    left, right = edge_K[0], edge_K[-1]
    parts = [
        _y_rule(left, right, middle + unit * math.sqrt(share), f"{100 * share:.3g}%")
        for share in _share_ticks(share_K.max(), abs(unit))
    ]
    path = "".join(
        f"V{middle + unit * math.sqrt(share):.1f}H{edge:.1f}"
        for share, edge in zip(share_K, edge_K[1:], strict=True)
    )
    start = f"M{left:.0f},{middle:.1f}"
    return [*parts, f'<path class="fill {name}" d="{start}{path}V{middle:.1f}Z"/>']


def coverage(generic_K, specialist_K, weights_K, title: str) -> str:
    """How much of the domain the highest-weighted part of the generic corpus covers."""
    across, covered = (
        np.concatenate([[0], np.cumsum(share_K)])
        for share_K in _by_weight(weights_K, generic_K, specialist_K)
    )
    left, right = 38, WIDTH - 12
    x, y = _linear((0, 1), (left, right)), _linear((0, 1), (BOTTOM, TOP))
    parts = []
    for t in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_y_rule(left, right, y(t), f"{100 * t:.0f}%"))
        parts.append(_text(x(t), BOTTOM + 16, f"{100 * t:.0f}%", "tick", "middle"))
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(across, covered, strict=True))
    half = float(np.interp(0.5, covered, across))
    at, anchor = (x(half) + 9, "start") if half < 0.5 else (x(half) - 9, "end")
    words = f"half of the domain in {number(100 * half, 1)}%"
    parts += [
        f'<line class="link generic" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>',
        _text(x(0.72), y(0.6) + 8, "if alike", "name generic"),
        f'<polyline class="curve specialist" points="{points}"/>',
        f'<circle class="dot specialist" cx="{x(half):.1f}" cy="{y(0.5):.1f}" r="4"/>',
        _text(at, y(0.5) + 15, words, "name specialist", anchor),
        _x_name(left, right, "share of the generic windows"),
    ]
    return _panel(title, HEIGHT, parts)


def repetitions(before_K, after_K, title: str) -> str:
    """How often a window of each cluster is drawn, without the cap (bars) and with it (line).

    Clusters stand from the most to the least drawn; across and in height as in `histograms`.
    """
    bars_K, line_K = _by_weight(before_K, before_K, after_K)
    left, right = 40, WIDTH - 4
    unit = (BOTTOM - TOP) / (math.sqrt(max(bars_K.max(), line_K.max())) or 1.0)
    edge_K = left + (right - left) * np.sqrt(np.arange(len(bars_K) + 1) / len(bars_K))
    bars, line = (
        "".join(
            f"V{BOTTOM - unit * math.sqrt(times):.1f}H{edge:.1f}"
            for times, edge in zip(times_K, edge_K[1:], strict=True)
        )
        for times_K in (bars_K, line_K)
    )
    start = BOTTOM - unit * math.sqrt(line_K[0])
    rules = [t for t in (1, 4, 10, 30, 100, 300, 1000) if unit * math.sqrt(t) <= BOTTOM - TOP]
    parts = [_y_rule(left, right, BOTTOM - unit * math.sqrt(t), str(t)) for t in rules]
    parts += [
        f'<path class="fill generic" d="M{left},{BOTTOM}{bars}V{BOTTOM}Z"/>',
        f'<path class="curve specialist" d="M{left},{start:.1f}{line}"/>',
        _text(right - 70, 15, "without cap", "name generic", "end"),
        _text(right, 15, "planned", "name specialist", "end"),
        _x_name(left, right, "cluster, by repetitions"),
    ]
    return _panel(title, HEIGHT, parts)


def _by_weight(weights_K, *shares) -> list[np.ndarray]:
    """Each float [K], from the cluster of the highest weight to that of the lowest."""
    order_K = np.argsort(-np.asarray(weights_K, float), kind="stable")
    return [np.asarray(share_K, float)[order_K] for share_K in shares]


def _room(names: Sequence[str], values: Sequence[str]) -> tuple[float, float]:
    """Where the names on the left end, and where the values on the right begin."""
    return 12 + LETTER * max(map(len, names)), WIDTH - 14 - LETTER * max(map(len, values))


def _rows_height(rows: Sequence) -> int:
    return 30 + ROW * len(rows) + 24


def _x_rule(x: float, height: float, name: str, kind: str = "rule") -> str:
    """A vertical line through the rows, its name below."""
    line = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="{height - 24}"/>'
    return line + _text(x, height - 8, name, "tick", "middle")


def _y_rule(left: float, right: float, y: float, name: str) -> str:
    """A horizontal line across the plotted area, its name on the left."""
    line = f'<line class="rule" x1="{left:.4g}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(left - 6, y + 4, name, "tick", "end")


def _horizontal(kind: str, start: float, stop: float, y: float) -> str:
    return f'<line class="{kind}" x1="{start:.1f}" x2="{stop:.1f}" y1="{y}" y2="{y}"/>'


def _x_name(left: float, right: float, name: str) -> str:
    return _text((left + right) / 2, BOTTOM + 31, name, "tick", "middle")


def _panel(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{clean(title)}">'
        f"{_text(0, 15, title, 'title')}{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{clean(text)}</text>'
    )


def _linear(domain: tuple[float, float], extent: tuple[float, float]) -> Scale:
    (a, b), (c, d) = domain, extent
    return lambda value: c + (d - c) * (value - a) / ((b - a) or 1.0)


def _ticks(low: float, high: float, least: int) -> list[float]:
    """Round values within [low, high], at least `least`: with the widest step 1, 2 or 5 x 10^n."""
    high = high if high > low else low + 1.0
    power = 10.0 ** math.ceil(math.log10(high - low))
    while True:
        for factor in (5, 2, 1):
            step = factor * power / 10
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 >= least:
                return [i * step for i in range(first, last + 1)]
        power /= 10


def _share_ticks(most: float, unit: float) -> list[float]:
    """Round shares up to `most`, from the highest down, apart on an axis unit * sqrt(share)."""
    ticks, free = [], math.inf
    for power in (1, 0.1, 0.01, 0.001, 0.0001):
        for share in (power, 0.5 * power, 0.2 * power):
            height = unit * math.sqrt(share)
            if share <= most and 16 <= height <= free - 18:
                ticks.append(share)
                free = height
    return ticks


def _log_scale(low: float, high: float) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """((log low, log high) with some room, [(log tick, its name)])."""
    low, high = low / 1.04, high * 1.04
    if high / low < 4:
        ticks = [t for t in _ticks(low, high, 2) if t > 0][:6]
    else:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 1000 else (1,)
        ticks = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
    return (math.log(low), math.log(high)), [(math.log(t), f"{t:,.4g}") for t in ticks]


def _thin(x_N, loss_N, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(x_P, loss_P): at most `most` points, each the average of a bucket of neighbours."""
    x_N, loss_N = np.asarray(x_N, float), np.asarray(loss_N, float)
    buckets = min(len(x_N), most)
    pieces = zip(np.array_split(x_N, buckets), np.array_split(loss_N, buckets), strict=True)
    averages = np.array([(a.mean(), b.mean()) for a, b in pieces])
    averages[-1, 0] = x_N[-1]
    return averages[:, 0], averages[:, 1]


def _apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The sorted positions, pushed apart to at least `gap`, within [low, high] where they fit."""
    placed: list[float] = []
    for at in wanted:
        placed.append(max(at, low, placed[-1] + gap if placed else low))
    limit = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - gap
    return placed
