"""What the rows of `benchmarks.adaptation` say: quality by budget, and compute at equal quality."""

import math
from collections.abc import Sequence

import numpy as np

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


def ratios(rows: list[dict], via: str) -> list[float]:
    """How many times the FLOPs the standard way takes to the same bits per byte: one number for
    each kind, seed, language and budget of it where both curves are.
    """
    curves: dict[tuple, dict[str, list]] = {}
    for row in rows:
        key = (row["kind"], row["seed"], row["language"])
        curve = curves.setdefault(key, {}).setdefault(row["via"], [])
        curve.append((row["flops"], row["bits_per_byte"]))
    found = []
    for of in curves.values():
        per_budget = [
            math.log(flops / reached)
            for flops, bits in of.get(STANDARD, [])
            if (reached := flops_at(bits, of.get(via, [])))
        ]
        if per_budget:
            found.append(float(np.mean(per_budget)))
    return [math.exp(value) for value in found]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(geometric mean, ends of its 95% interval by Student's t); the ends are nan of one value."""
    logs = np.log(values)
    if len(logs) < 2:
        return math.exp(float(logs.mean())), math.nan, math.nan
    middle, half = intervals.interval(logs)
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def summary(rows: list[dict]) -> list[str]:
    """Tables as Markdown, over seeds and languages."""
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        lines += ["", f"| {kind}: way | rule | tokens | bits per byte | FLOPs | rows |"]
        lines.append("|---|---|---|---|---|---|")
        groups: dict[tuple, list[dict]] = {}
        for row in of_kind:
            groups.setdefault((row["via"], row["init"], row["tokens"]), []).append(row)
        for (via, init, tokens), found in sorted(groups.items()):
            bits, flops = (np.mean([row[f] for row in found]) for f in ("bits_per_byte", "flops"))
            lines.append(
                f"| {via} | {init} | {tokens:,} | {bits:.4f} | {flops:.3g} | {len(found)} |"
            )
        lines.append("")
        for via in SHALLOW:
            values = ratios(of_kind, via)
            if values:
                middle, low, high = interval(values)
                lines.append(
                    f"{kind}: {via} takes 1/{middle:.2f} of the FLOPs of the whole model at equal "
                    f"bits per byte (95%: {low:.2f} to {high:.2f}, {len(values)} models)"
                )
            elif any(row["via"] == via for row in of_kind):
                lines.append(f"{kind}: the curves of {via} and of the whole model do not meet")
    return lines
