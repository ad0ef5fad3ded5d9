"""Tiny models and size golf."""

import numpy as np

from benchmarks import golf_entries
from benchmarks.intervals import interval
from claims.claim import DOMAINS, FRONT, RESULTS, Claim, N, both, of, rows

GOLF, ALL_4096, FACTORED = (
    (250_000, 1_000_000, 4_000_000),
    "all, 4,096 pieces",
    "all, factored, 4,096 pieces",
)
LOOP, FACTORED_TABLE, SPELT = (
    "loop of two blocks",
    "factored table",
    "byte-pooled, tied, 16 own numbers",
)


def golf_bits(size: int, entry: str) -> float:
    """Bits per byte of an entry."""
    return of("golf/rows.jsonl", "bits_per_byte", bytes=size, entry=entry)[0]


def golf_gains(size: int) -> list[float]:
    """What the best network takes off the best n-gram model, and off LZMA, per cent."""
    bits = {
        row["entry"]: row["bits_per_byte"]
        for row in rows("golf/rows.jsonl")
        if row["bytes"] == size
    }
    others = {name for name in bits if name == "LZMA" or name.startswith("n-grams of")}
    best = min(bits[name] for name in set(bits) - others)
    return [100 * (1 - best / low) for low in (min(bits[n] for n in others), bits["LZMA"])]


def trick(entry: str) -> float:
    """What a trick of golf changes, per cent."""
    other = golf_entries.ENTRIES[entry].over
    ours, base = (of("golf/tricks.jsonl", "bits_per_byte", entry=e)[0] for e in (entry, other))
    return 100 * (ours / base - 1)


def speed(size: str, side: str, what: str, field: str) -> float:
    """A figure of `benchmarks.tiny_speed`, per cent."""
    return 100 * of("tiny/speed.jsonl", field, size=size, side=side, what=what)[0]


def tiny_more(model: str, name: str = "rows") -> list[float]:
    """More bits on the domains than the dense vocabulary, per cent, and half of the interval."""
    bits = [
        np.array(
            [
                np.mean([row["bits_per_byte"][domain] for domain in DOMAINS])
                for row in sorted(rows(f"tiny/{name}.jsonl"), key=lambda row: row["seed"])
                if row["model"] == each and not row["search"]
            ]
        )
        for each in (model, "dense vocabulary")
    ]
    return interval(100 * (bits[0] / bits[1] - 1))


CLAIMS = (
    Claim(
        RESULTS,
        rf"The nearest: a loop of two blocks \({N}% more bits on the domains, {N}% with\s+four times the "
        rf"compute\), a factored table \({N}%, {N}%\), bytes with 16 numbers of each piece's own "
        rf"\({N}%, {N}%\)",
        lambda: [
            tiny_more(model, name)[0]
            for model in (LOOP, FACTORED_TABLE, SPELT)
            for name in ("rows", "long")
        ],
    ),
    Claim(
        RESULTS,
        rf"as published, {N}% more bits; in turn {N}%\..*? in a tied head it is\s+{N}%, and with 16 "
        rf"numbers of each piece's own {N}%\.",
        lambda: [
            tiny_more(f"byte-pooled, {form}")[0]
            for form in ("at once", "in turn", "tied", "tied, 16 own numbers")
        ],
    ),
    Claim(
        RESULTS,
        rf"need {N}% more bits in their best form, {N}% more as published \| ± {N}, ± {N}, three",
        both(
            lambda: [tiny_more(m)[0] for m in (SPELT, "byte-pooled, at once")],
            lambda: [tiny_more(m)[1] for m in (SPELT, "byte-pooled, at once")],
        ),
    ),
    Claim(
        RESULTS,
        rf"with 3 bits\s+it is {N}% worse than 4 bits",
        lambda: [trick("Muon, trained for 3 bits")],
    ),
    Claim(
        RESULTS,
        rf"shared layers \({N}% worse, the loop {N}% better\) nor a factored table \({N}% worse\) nor "
        rf"windows of 256 \({N}% worse\)",
        lambda: [
            trick("Muon, shared MLP"),
            -trick("Muon, loop of two blocks"),
            trick("Muon, factored table"),
            trick("Muon, windows of 256"),
        ],
    ),
    Claim(
        RESULTS,
        rf"At 10M parameters the published heads meet it \({N}% and {N}%\)",
        lambda: [
            speed("10m", side, "training", "share_of_ends") for side in ("at once", "in turn")
        ],
    ),
    Claim(
        RESULTS,
        rf"every piece of the vocabulary for each token: {N}% and {N}% of the dense speed",
        lambda: [
            speed(size, "in turn", "generation", "against_dense") for size in ("local", "10m")
        ],
    ),
    Claim(
        RESULTS,
        rf"mixed with n-grams takes {N}%, {N}% and {N}% off the best pruned n-gram model of that size, "
        rf"and {N}%, {N}% and {N}% off LZMA",
        lambda: [golf_gains(size)[other] for other in (0, 1) for size in GOLF],
    ),
    Claim(
        FRONT,
        rf"in the bytes that it leaves, needs {N}%, {N}% and\s+{N}% fewer bits for generic text",
        lambda: [golf_gains(size)[0] for size in GOLF],
    ),
    Claim(
        RESULTS,
        rf"more than a tenth off the best pruned n-gram model: {N}% in 0.25 MB, {N}%\s+in 1 MB, "
        rf"{N}% in 4 MB; off LZMA {N}%, {N}% and {N}%",
        lambda: [golf_gains(size)[other] for other in (0, 1) for size in GOLF],
    ),
    Claim(
        RESULTS,
        rf"for the layers and the n-grams: {N}% fewer bits than a table of 2,048",
        lambda: [
            100 * (1 - golf_bits(GOLF[0], FACTORED) / golf_bits(GOLF[0], "all, 2,048 pieces"))
        ],
    ),
    Claim(
        RESULTS,
        rf"worth less than the n-gram model that would have its bytes: {N}% more bits",
        lambda: [
            100
            * (golf_bits(GOLF[1], "all, table, 4,096 pieces") / golf_bits(GOLF[1], ALL_4096) - 1)
        ],
    ),
    Claim(
        RESULTS,
        rf"write {N} to {N} times the bytes a second on medical text and {N} to {N} on German",
        lambda: [
            pick(of("adaptation/speed.jsonl", "ratio", model="slm", domain=domain))
            for domain in ("med", "de")
            for pick in (min, max)
        ],
    ),
    Claim(
        RESULTS,
        rf"SmolLM2 fitted to German writes {N} times the bytes a second, with the new vocabulary {N} times",
        lambda: [
            of("adaptation/speed.jsonl", "ratio", model="open", way=f"{way} none")[0]
            for way in ("extend", "new")
        ],
    ),
)
