"""Registered forecasts."""

from functools import cache

import numpy as np

from benchmarks import golf_entries, scored
from claims.claim import FRONT, PLANNING, RESULTS, Claim, N, of


def trick(entry: str) -> float:
    """What a trick of golf changes, per cent."""
    other = golf_entries.ENTRIES[entry].over
    ours, base = (of("golf/tricks.jsonl", "bits_per_byte", entry=e)[0] for e in (entry, other))
    return 100 * (ours / base - 1)


@cache
def scores() -> tuple[dict, ...]:
    """Of the registered forecasts of legal, math and theology."""
    return tuple(scored.score(domain, scored.read()) for domain in ("legal", "math", "theology"))


def registered() -> list[dict]:
    """Their methods that were trained."""
    return [each for found in scores() for each in found["methods"]]


def inside(level: int) -> int:
    """How many of them came out inside the interval."""
    return sum(each[f"inside_{level}"] for each in registered())


def registered_gains(name: str) -> list[float]:
    """What importance sampling takes off the small model, per cent, forecast or measured."""
    return [-100 * scored.gain(found, name) for found in scores()]


CLAIMS = (
    Claim(
        RESULTS,
        rf"beside the network \({N}% fewer bits\) or inside of it \({N}%\), then 4,096 pieces \({N}%\), 8 "
        rf"bits in place of 4\s+\({N}%\) and Muon \({N}%\)\. Training for the 4 bits is worth {N}%",
        lambda: [
            -trick(name)
            for name in (
                "Muon, with n-grams",
                "Muon, table of n-grams",
                "Muon, 4,096 pieces",
                "dense, 8 bits",
                "Muon",
                "Muon, trained for 4 bits",
            )
        ],
    ),
    Claim(
        RESULTS,
        rf"Misses: {N} of the {N} are inside the 80% intervals, where {N} are to be expected",
        lambda: [inside(80), len(registered()), 0.8 * len(registered())],
    ),
    Claim(
        RESULTS,
        rf"six forecasts are too high, by {N}% on average",
        lambda: [100 * np.mean([each["error"] for each in registered()])],
    ),
    Claim(
        RESULTS,
        rf"was forecast as {N}%, {N}% and {N}% of the small model's bits for legal, math and "
        rf"theology, and came out as {N}%, {N}% and {N}%:",
        lambda: [*registered_gains("forecast"), *registered_gains("measured")],
    ),
    Claim(
        FRONT,
        rf"forecasts registered before training were {N}% off, all too high",
        lambda: [100 * np.mean([abs(each["error"]) for each in registered()])],
    ),
    Claim(
        PLANNING,
        rf"intervals, {N} inside the 80% ones; and all forecasts are too high, by {N}% on "
        rf"average\. The gain of importance sampling, forecast as {N}%, came out between {N}% and {N}%",
        lambda: [
            inside(80),
            100 * np.mean([each["error"] for each in registered()]),
            np.mean(registered_gains("forecast")),
            min(registered_gains("measured")),
            max(registered_gains("measured")),
        ],
    ),
)
