"""Pieces of the report pages: the page itself, escaped text, numbers in words, plain tables."""

import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

SAMPLE_LETTERS = 280  # of one sample text; the rest is cut, marked by an ellipsis


# Settings and versions are unfolded before printing.
SCRIPT = (
    "addEventListener('beforeprint',()=>document.querySelectorAll('details.record')"
    ".forEach(d=>d.open=true))"
)


def page(title: str, header: str, sections: Iterable[tuple[str, str, str]], style: str) -> str:
    """A whole page without any outside reference.

    Args:
      title: as text.
      header: HTML.
      sections: (id, title as text, HTML); those without content are left out.
      style: CSS, after that of report.css.
    """
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{clean(heading)}</a>' for name, heading, _ in shown)
    body = "".join(
        f'<section id="{name}"><h2>{clean(heading)}</h2>{content}</section>'
        for name, heading, content in shown
    )
    common = (files("specialm.reports") / "report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{clean(title)}</title><style>{common}{style}</style></head>"
        f"<body><main>{header}<nav>{links}</nav>{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def facts_table(corner: str, columns, rows) -> str:
    """A table of facts; columns without any are left out.

    Args:
      corner: heading of the names.
      columns: (key, title, function that writes a value).
      rows: (name, dict).
    """
    columns = [c for c in columns if any(facts.get(c[0]) is not None for _, facts in rows)]
    head = "".join(
        f"<th{_left([facts.get(key) for _, facts in rows])}>{clean(title)}</th>"
        for key, title, _ in columns
    )
    body = "".join(_facts_row(name, facts, columns) for name, facts in rows)
    return (
        f'<div class="scroll"><table><thead><tr><th>{clean(corner)}</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _facts_row(name: str, facts: dict, columns) -> str:
    cells = "".join(
        f"<td{_left([facts.get(key)])}>"
        f"{clean(show(facts[key])) if facts.get(key) is not None else '–'}</td>"
        for key, _, show in columns
    )
    return f'<tr><th scope="row">{clean(name)}</th>{cells}</tr>'


def _left(values) -> str:
    return ' class="left"' if any(isinstance(value, str) for value in values) else ""


def grid(panels: Sequence[str]) -> str:
    """Panels side by side; four stand two by two rather than three and one."""
    kind = "grid two" if len(panels) in (2, 4) else "grid"
    return f'<div class="{kind}">{"".join(panels)}</div>' if panels else ""


def clean(value, keep_lines: bool = False) -> str:
    """Escaped text; control characters and lone surrogates become spaces."""
    allowed = "\n" if keep_lines else ""
    text = "".join(
        " " if unicodedata.category(c) in ("Cc", "Cs") and c not in allowed else c
        for c in str(value)
    )
    return escape(text, quote=True)


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
