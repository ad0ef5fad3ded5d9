"""Values of fields of rows: as names, as what a filter compares, in fields of fields."""

import datetime
import decimal
import json
import math
import os
import re
from typing import Any

Filter = tuple[str, str]  # a field and the value that it must have
_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
TIMES = (datetime.datetime, datetime.date, datetime.time)


def parse_filter(path: str) -> tuple[str, Filter | None]:
    """Return ("PATH", ("meta.set", "ArXiv")) of "PATH?meta.set=ArXiv", else (path, None)."""
    match = re.fullmatch(r"(.*?)\?([^?=/]+)=(.*)", path, re.DOTALL)
    if not match or os.path.exists(path):
        return path, None
    return match[1], (match[2], match[3])


def lookup(row: dict, name: str) -> Any:
    """Return the value of a field, or of a field of fields, as in `meta.set`; None without it."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def name_of(value: Any) -> str | None:
    """Return an `id` or `group` as text; None for one that names nothing: null, "", NaN, NaT."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = text_of(value)
    return text if text.strip() and text not in ("NaT", "NaN") else None


def text_of(value: Any) -> str:
    """Return a value as text: of JSON's types as JSON writes them, without spaces."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool | dict | list):
        return json.dumps(
            value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str
        )
    return str(value)


def matches(value: Any, wanted: str) -> bool:
    """Whether a field's value is the one that a filter names.

    true, false and null are JSON's (Python's spelling too; a field that is not there is null),
    numbers are compared as numbers, times as text with either a space or a T, lists and objects
    as JSON; anything else as text.
    """
    if value is None:
        return wanted in ("null", "None")
    if isinstance(value, bool):
        return wanted in (str(value), str(value).lower())
    if isinstance(value, str | bytes):
        return text_of(value) == wanted
    if isinstance(value, int | float | decimal.Decimal):
        return text_of(value) == wanted or _number(wanted, type(value)) == value
    if isinstance(value, TIMES):
        return str(value).replace(" ", "T") == wanted.replace(" ", "T")
    if isinstance(value, dict | list):
        return _canonical(wanted) == text_of(value)
    return text_of(value) == wanted


def _number(text: str, kind: type) -> decimal.Decimal | float | None:
    try:
        number = float(text) if kind is float else decimal.Decimal(text)
    except (ValueError, decimal.InvalidOperation):
        return None
    return None if number != number else number


def _canonical(text: str) -> str:
    try:
        return text_of(json.loads(text))
    except (ValueError, RecursionError):
        return text
