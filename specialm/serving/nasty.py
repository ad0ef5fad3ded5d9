"""Strings that tokenisers stumble over, to compare two of them."""

from collections.abc import Iterator

import numpy as np

PARTS = (
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # a family of three, joined
    "\U0001f1e9\U0001f1ea",
    "\u0061\u0301\u0323",
    "\u0623\u0644\u0633\u0644\u0627\u0645",
    "\u6c49\u5b57\u4eee\u540d",
    "   ",
    "\n\n\n",
    "\r\n",
    "\t \t",
    "\u00a0\u2003\u3000",
    "\x00\x01\x1f\x7f",
    "\ufeff",
    "\u200b\u200e",
    "\ufffd",
    "\u2581",
    "12345",
    "\u0661\u0662\u00bd\u2167",
    "don't I'LL we've",
    "<|im_start",
    "</s>",
    "<0x0A>",
    "\u0120\u010a",
    "{{x}}",
    "\\n",
    "...!!??",
    "ABCdef",
    "\u0130\u0131\u1e9e\ufb01",
)


def nasty_strings(count: int, seed: int = 0) -> list[str]:
    """`count` strings of every Unicode plane, emoji, runs of spaces, control bytes, all mixed."""
    rng = np.random.default_rng(seed)
    return ["".join(_pieces(rng)) for _ in range(count)]


def _pieces(rng: np.random.Generator) -> Iterator[str]:
    for _ in range(rng.integers(1, 8)):
        if rng.random() < 0.5:
            yield PARTS[rng.integers(len(PARTS))]
        else:
            plane = int(rng.integers(17)) if rng.random() < 0.5 else 0
            points = (plane << 16) + rng.integers(0, 1 << 16, rng.integers(1, 6))
            yield "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
        if rng.random() < 0.3:
            yield " " * rng.integers(1, 5)
