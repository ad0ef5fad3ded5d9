"""Numbers and texts as people read them: percentages, times, plurals, text that can be printed."""

import unicodedata

SAMPLE_LETTERS = 280  # of one sample text; the rest is cut, marked by an ellipsis


def printable(text: str) -> str:
    """The text with spaces for control characters and lone surrogates; lines are kept."""
    return "".join(
        " " if unicodedata.category(c) in ("Cc", "Cs") and c != "\n" else c for c in text
    )


def short(text: str, letters: int = 18) -> str:
    """A name that has room beside a figure."""
    text = printable(text).replace("\n", " ")
    return text if len(text) <= letters else text[: letters - 1] + "…"


def cut(text: str) -> str:
    """A sample text on one line, at most SAMPLE_LETTERS long."""
    text = " ".join(str(text).split())
    return text if len(text) <= SAMPLE_LETTERS else text[:SAMPLE_LETTERS].rstrip() + "…"


def plain(value) -> str:
    """A setting's value for people: lists joined, large integers with separators."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "()"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) or '""'
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def percent(value: float) -> str:
    """A share as a percentage with two or three digits; a tiny one as under 0.01%."""
    if 0 < value < 0.0001:
        return "under 0.01%"
    return f"{100 * value:.1f}%" if value >= 0.01 else f"{100 * value:.2g}%"


def plural(n: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    """12.3 s, 4 min 5 s or 2 h 7 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def moment(created: str | None) -> list[str]:
    """[`2025-01-02 03:04`] of a record's ISO time, [] without one."""
    return [str(created).replace("T", " ")[:16]] if created else []
