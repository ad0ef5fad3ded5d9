"""What the rows of `benchmarks.adaptation` say: quality by budget, and compute at equal quality."""

import math
from collections.abc import Sequence

import numpy as np

from benchmarks import cells as grid
from benchmarks import intervals

STANDARD, SHALLOW = "full", ("mini_joint", "mini_post")


def flops_at(bits: float, curve: Sequence[tuple[float, float]]) -> float | None:
    """The FLOPs at which a curve has come to so many bits per byte, its logarithm interpolated
    between the two budgets around it; None if it never does, or has from its first budget on.

    Args:
      curve: (FLOPs, bits per byte) of each budget. More compute that made it worse counts for
        nothing: a budget's bits are the best so far.
    """
    points = sorted(curve)
    best = np.minimum.accumulate([point[1] for point in points])
    for (low, high), (before, after) in zip(
        zip(points, points[1:], strict=False), zip(best, best[1:], strict=False), strict=True
    ):
        if before >= bits >= after and before > after:
            share = (before - bits) / (before - after)
            return math.exp(math.log(low[0]) + share * (math.log(high[0]) - math.log(low[0])))
    return None


def ratios(
    rows: list[dict], via: str, once: bool = False, field: str = "flops"
) -> list[list[float | None]]:
    """How many times the FLOPs the standard way takes to the same bits per byte: for each model and
    language a list, of each budget of the standard way, None where only one curve is.

    Args:
      once: whether what serves all languages is paid for this one alone.
      field: `flops`, or `seconds` in their place.
    """
    curves: dict[tuple, dict[str, list]] = {}
    for row in rows:
        key = (row["kind"], row["seed"], row["language"])
        curve = curves.setdefault(key, {}).setdefault(row["via"], [])
        spent = row[field] + (row["one_off_flops"] if once else 0)
        curve.append((spent, row["bits_per_byte"]))
    return [
        [
            flops / reached if (reached := flops_at(bits, of[via])) else None
            for flops, bits in sorted(of[STANDARD])
        ]
        for of in curves.values()
        if STANDARD in of and via in of
    ]


def means(found: list[list[float | None]]) -> list[float]:
    """The geometric mean of each list over what is there; lists with nothing are left out."""
    logs = [[math.log(value) for value in of if value] for of in found]
    return [math.exp(float(np.mean(of))) for of in logs if of]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(geometric mean, ends of its 95% interval by Student's t); the ends are nan of one value."""
    logs = np.log(values)
    if len(logs) < 2:
        return math.exp(float(logs.mean())), math.nan, math.nan
    middle, half = intervals.interval(logs)
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def summary(rows: list[dict]) -> list[str]:
    """Tables as Markdown, means over seeds with 95% intervals."""
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        lines += ["", *table(of_kind), ""]
        lines += [f"{kind}: {line}" for via in SHALLOW for line in compared(of_kind, via)]
    return lines


def table(rows: list[dict]) -> list[str]:
    """One kind of model; a line each way, rule and budget."""
    languages = list(dict.fromkeys(row["language"] for row in rows))
    lines = ["| way | rule | tokens | " + " | ".join(languages) + " | FLOPs | once |"]
    lines.append("|---" * (len(languages) + 5) + "|")
    groups = grid.by(rows, "via", "init", "tokens")
    order = {via: place for place, via in enumerate(dict.fromkeys(row["via"] for row in rows))}
    for (via, init, tokens), found in sorted(
        groups.items(), key=lambda item: (order[item[0][0]], item[0][2])
    ):
        bits = [
            [row["bits_per_byte"] for row in found if row["language"] == language]
            for language in languages
        ]
        cells = [intervals.shown(values) if values else "" for values in bits]
        flops, once = (np.mean([row[f] for row in found]) for f in ("flops", "one_off_flops"))
        start = f"| `{via}` | {init} | {tokens:,} | " + " | ".join(cells)
        lines.append(f"{start} | {_power(flops)} | {_power(once)} |")
    return lines


def _power(flops: float) -> str:
    return f"{flops:.2g}".replace("e+", "e") if flops else ""


def compared(rows: list[dict], via: str) -> list[str]:
    """What a shallow way costs against the whole model, as sentences."""
    found = ratios(rows, via)
    met, asked = (sum(map(len, lists)) for lists in ([[v for v in f if v] for f in found], found))
    if not asked:
        return []
    if not met:
        return [f"the curves of {via} and of the whole model do not meet"]
    middle, low, high = interval(means(found))
    lines = [
        f"{via} takes 1/{middle:.2f} of the FLOPs of the whole model at equal bits per byte (95%: "
        f"{low:.2f} to {high:.2f}, {len(means(found))} models; {met} of {asked} budgets of the "
        "whole model are on its curve)"
    ]
    others = {
        "with what it costs once, for one language": ratios(rows, via, once=True),
        "in seconds": ratios(rows, via, field="seconds"),
    }
    for what, lists in others.items():
        if values := means(lists):
            middle, low, high = interval(values)
            lines.append(
                f"{via} {what}: 1/{middle:.2f} (95%: {low:.2f} to {high:.2f}, {len(values)} models)"
            )
    return lines
