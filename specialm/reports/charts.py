"""The report's charts as small hand-written SVG: they follow the page's colours, light or dark.

Every chart is one panel, WIDTH units wide, so that it can stand three abreast on a wide screen
and alone on a telephone with its letters at a readable size. Colours come from the page's style
sheet: class `m0`, `m1`, ... for methods, `generic` and `specialist` for the two sets.
"""

import math

import numpy as np

from specialm.reports.markup import clean
from specialm.reports.summary import count, number, signed_percent, spread

WIDTH = 360
LETTER = 6.1  # mean width of a letter at the charts' 11 px
MOST_POINTS = 80  # of one training curve; more are averaged in buckets


def dots(rows, title: str) -> str:
    """Each method's perplexity before (ring) and after (dot) fine-tuning, on a log scale.

    Args:
      rows: list of (label, colour class, before Cell or None, after Cell or None).
      title: heading of the panel.
    """
    cells = [c for _, _, before, after in rows for c in (before, after) if c]
    low = min(c.mean - (c.sd or 0) for c in cells)
    low = low if low > 0 else min(c.mean for c in cells)
    scale, ticks = _log_scale(low, max(c.mean + (c.sd or 0) for c in cells))
    left = 12 + LETTER * max(len(row[0]) for row in rows)
    right = WIDTH - 14 - LETTER * max(len(spread(after or before)) for _, _, before, after in rows)
    x = _linear(scale, (left + 8, right - 10))
    height = 30 + 28 * len(rows) + 24
    parts = [
        f'<line class="rule" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="28" y2="{height - 24}"/>'
        + _text(x(t), height - 8, name, "tick", "middle")
        for t, name in ticks
    ]
    for i, (name, colour, before, after) in enumerate(rows):
        y = 44 + 28 * i
        parts.append(_text(0, y + 4, name, f"name {colour}"))
        if before and after:
            ends = f'x1="{x(math.log(before.mean)):.1f}" x2="{x(math.log(after.mean)):.1f}"'
            parts.append(f'<line class="link {colour}" {ends} y1="{y}" y2="{y}"/>')
        for kind, value in (("ring", before), ("dot", after)):
            if value is None:
                continue
            if value.sd:
                ends = [math.log(max(value.mean + s * value.sd, low)) for s in (-1, 1)]
                parts.append(
                    f'<line class="spread {colour}" x1="{x(ends[0]):.1f}" x2="{x(ends[1]):.1f}" '
                    f'y1="{y}" y2="{y}"/>'
                )
            parts.append(
                f'<circle class="{kind} {colour}" cx="{x(math.log(value.mean)):.1f}" cy="{y}" '
                f'r="5"><title>{clean(name)}: {spread(value)}</title></circle>'
            )
        parts.append(_text(WIDTH - 4, y + 4, spread(after or before), "value", "end"))
    return _panel(title, height, parts)


def differences(rows, title: str) -> str:
    """Each method's change against the base, a mark per seed and a bar at the mean.

    Args:
      rows: list of (label, colour class, list of relative differences, their Cell).
      title: heading of the panel.
    """
    values = [0.0, *(d for _, _, seeds, _ in rows for d in seeds)]
    low, high = min(values), max(values)
    pad = 0.08 * (high - low) or 0.01
    left = 12 + LETTER * max(len(row[0]) for row in rows)
    right = WIDTH - 14 - LETTER * max(len(signed_percent(row[3])) for row in rows)
    x = _linear((low - pad, high + pad), (left + 8, right - 8))
    height = 30 + 28 * len(rows) + 24
    ticks = _ticks(low - pad, high + pad, 2)
    parts = []
    for t in ticks:
        kind = "zero" if abs(t) < 1e-9 else "rule"
        name = f"{100 * t:+.3g}%".replace("-", "−") if kind == "rule" else "0"
        parts.append(
            f'<line class="{kind}" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="28" y2="{height - 24}"/>'
            + _text(x(t), height - 8, name, "tick", "middle")
        )
    for i, (name, colour, seeds, mean) in enumerate(rows):
        y = 44 + 28 * i
        parts.append(_text(0, y + 4, name, f"name {colour}"))
        parts.append(
            f'<line class="mean {colour}" x1="{x(mean.mean):.1f}" x2="{x(mean.mean):.1f}" '
            f'y1="{y - 9}" y2="{y + 9}"/>'
        )
        parts += [f'<circle class="seed {colour}" cx="{x(d):.1f}" cy="{y}" r="4"/>' for d in seeds]
        parts.append(_text(WIDTH - 4, y + 4, signed_percent(mean), "value", "end"))
    return _panel(title, height, parts)


def curves(lines, title: str, x_name: str, best: bool = False) -> str:
    """Learning curves: loss in nats per token against tokens or steps.

    The first steps, where the loss falls from ln(vocabulary), run off the top.

    Args:
      lines: list of (label, colour class, x_N, loss_N); lines of one label are its seeds.
      title: heading of the panel.
      x_name: what x counts.
      best: mark each line's lowest point, and draw every point.
    """
    most = max(len(x_N) for _, _, x_N, _ in lines) if best else MOST_POINTS
    lines = [(name, colour, *_thin(x_N, loss_N, most)) for name, colour, x_N, loss_N in lines]
    height, top, bottom = 230, 34, 194
    right = WIDTH - 14 - LETTER * max(len(line[0]) for line in lines)
    last = max(x_N[-1] for _, _, x_N, _ in lines)
    low = min(loss_N.min() for *_, loss_N in lines)
    high = max(np.interp(0.08 * last, x_N, loss_N) for _, _, x_N, loss_N in lines)
    high = max(high, *(loss_N[-1] for *_, loss_N in lines), low + 0.05)
    pad = 0.05 * (high - low)
    x, y = _linear((0, last), (34, right)), _linear((low - pad, high + pad), (bottom, top))
    parts = []
    for t in _ticks(low - pad, high + pad, 4):
        parts.append(
            f'<line class="rule" x1="34" x2="{right:.1f}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        )
        parts.append(_text(28, y(t) + 4, f"{t:.3g}", "tick", "end"))
    ticks = _ticks(0, last, 3)
    parts += [_text(x(t), bottom + 16, count(t), "tick", "middle") for t in ticks]
    parts.append(_text((34 + right) / 2, bottom + 31, x_name, "tick", "middle"))
    ends = {}
    drawn = []
    for name, colour, x_N, loss_N in lines:
        points = " ".join(f"{x(a):.1f},{y(b) - top:.1f}" for a, b in zip(x_N, loss_N, strict=True))
        drawn.append(f'<polyline class="curve {colour}" points="{points}"/>')
        if best:
            i = int(np.argmin(loss_N))
            drawn.append(
                f'<circle class="dot {colour}" cx="{x(x_N[i]):.1f}" '
                f'cy="{y(loss_N[i]) - top:.1f}" r="3"/>'
            )
        ends.setdefault((name, colour), []).append(y(loss_N[-1]))
    # A nested svg clips what runs off the top.
    parts.append(
        f'<svg x="0" y="{top}" width="{WIDTH}" height="{bottom - top + 4}">{"".join(drawn)}</svg>'
    )
    names = sorted((float(np.mean(at)), name, colour) for (name, colour), at in ends.items())
    heights = _apart([at for at, _, _ in names], 13, top, bottom)
    for (_, name, colour), at in zip(names, heights, strict=True):
        parts.append(_text(right + 7, at + 4, name, f"name {colour}"))
    return _panel(title, height, parts)


def histograms(generic_K, specialist_K, weights_K, title: str) -> str:
    """Cluster shares of the specialist set (up) and of the generic set (down), by weight.

    Clusters stand from the highest weight on the left to the lowest. Both axes are square roots:
    across, of the rank, so that the few clusters of high weight have room beside the many of low
    weight; in height, of the share, so that a share of 0.1% can be seen beside one of 10%.
    """
    order_K = np.argsort(-np.asarray(weights_K, float), kind="stable")
    up_K, down_K = (np.asarray(h, float)[order_K] for h in (specialist_K, generic_K))
    k, height, top, bottom, left, right = len(order_K), 230, 34, 194, 40, WIDTH - 4
    # Each half has the room its highest bar needs.
    unit = (bottom - top) / ((math.sqrt(up_K.max()) + math.sqrt(down_K.max())) or 1.0)
    middle = top + unit * math.sqrt(up_K.max())
    edge_K = left + (right - left) * np.sqrt(np.arange(k + 1) / k)
    parts = []
    for name, share_K, sign in (("specialist", up_K, -1), ("generic", down_K, 1)):
        for share in _share_ticks(share_K.max(), unit):
            at = middle + sign * unit * math.sqrt(share)
            parts.append(
                f'<line class="rule" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
            parts.append(_text(left - 6, at + 4, f"{100 * share:.3g}%", "tick", "end"))
        path = "".join(
            f"V{middle + sign * unit * math.sqrt(share):.1f}H{edge:.1f}"
            for share, edge in zip(share_K, edge_K[1:], strict=True)
        )
        parts.append(f'<path class="fill {name}" d="M{left},{middle:.1f}{path}V{middle:.1f}Z"/>')
    parts.append(
        f'<line class="zero" x1="{left}" x2="{right}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    )
    parts.append(_text(left - 6, middle + 4, "0", "tick", "end"))
    parts.append(_text(right - 70, 15, "↑ domain", "name specialist", "end"))
    parts.append(_text(right, 15, "↓ generic", "name generic", "end"))
    for rank in (r for r in (1, 10, 50, 200, 1000) if r <= k):
        middle_of_bar = (edge_K[rank - 1] + edge_K[rank]) / 2
        parts.append(_text(middle_of_bar, bottom + 16, str(rank), "tick", "middle"))
    parts.append(_text((left + right) / 2, bottom + 31, "cluster, by weight", "tick", "middle"))
    return _panel(title, height, parts)


def coverage(generic_K, specialist_K, weights_K, title: str) -> str:
    """How much of the domain the highest-weighted part of the generic corpus covers."""
    order_K = np.argsort(-np.asarray(weights_K, float), kind="stable")
    generic_K, specialist_K = np.asarray(generic_K, float), np.asarray(specialist_K, float)
    across = np.concatenate([[0], np.cumsum(generic_K[order_K])])
    covered = np.concatenate([[0], np.cumsum(specialist_K[order_K])])
    height, top, bottom, left, right = 230, 34, 194, 38, WIDTH - 12
    x, y = _linear((0, 1), (left, right)), _linear((0, 1), (bottom, top))
    parts = []
    for t in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<line class="rule" x1="{left}" x2="{right}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        )
        parts.append(_text(left - 6, y(t) + 4, f"{100 * t:.0f}%", "tick", "end"))
        parts.append(_text(x(t), bottom + 16, f"{100 * t:.0f}%", "tick", "middle"))
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(across, covered, strict=True))
    parts.append(f'<line class="link generic" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    parts.append(_text(x(0.72), y(0.6) + 8, "if alike", "name generic"))
    parts.append(f'<polyline class="curve specialist" points="{points}"/>')
    half = float(np.interp(0.5, covered, across))
    parts.append(f'<circle class="dot specialist" cx="{x(half):.1f}" cy="{y(0.5):.1f}" r="4"/>')
    where = (x(half) + 9, "start") if half < 0.5 else (x(half) - 9, "end")
    parts.append(
        _text(
            where[0],
            y(0.5) + 15,
            f"half of the domain in {number(100 * half, 1)}%",
            "name specialist",
            where[1],
        )
    )
    parts.append(
        _text((left + right) / 2, bottom + 31, "share of the generic windows", "tick", "middle")
    )
    return _panel(title, height, parts)


def _panel(title: str, height: float, parts) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{clean(title)}">'
        f"{_text(0, 15, title, 'title')}{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{clean(text)}</text>'
    )


def _linear(domain, extent):
    (a, b), (c, d) = domain, extent
    return lambda value: c + (d - c) * (value - a) / ((b - a) or 1.0)


def _ticks(low: float, high: float, least: int) -> list[float]:
    """Round values within [low, high]: the widest of the steps 1, 2, 5 x 10^n that gives
    `least` of them."""
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


def _log_scale(low: float, high: float):
    """((log low, log high) with some room, [(log tick, its name)])."""
    low, high = low / 1.04, high * 1.04
    if high / low < 4:
        ticks = [t for t in _ticks(low, high, 2) if t > 0][:6]
    else:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1, 2, 5) if high / low < 60 else (1, 3) if high / low < 1000 else (1,)
        ticks = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
    return (math.log(low), math.log(high)), [(math.log(t), f"{t:,.4g}") for t in ticks]


def _thin(x_N, loss_N, most: int):
    """At most `most` points, each the average of a bucket of neighbours."""
    x_N, loss_N = np.asarray(x_N, float), np.asarray(loss_N, float)
    buckets = min(len(x_N), most)
    pieces = zip(np.array_split(x_N, buckets), np.array_split(loss_N, buckets), strict=True)
    averages = np.array([(a.mean(), b.mean()) for a, b in pieces])
    averages[-1, 0] = x_N[-1]
    return averages[:, 0], averages[:, 1]


def _apart(wanted, gap: float, low: float, high: float) -> list[float]:
    """The sorted positions, pushed apart to at least `gap`, within [low, high] where they fit."""
    placed = []
    for at in wanted:
        placed.append(max(at, low, placed[-1] + gap if placed else low))
    limit = high
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], limit)
        limit = placed[i] - gap
    return placed
