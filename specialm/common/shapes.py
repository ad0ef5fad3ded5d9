"""What a JSON value has to be like, and what is wrong with one that is not.

A shape is one of the `Kind`s below, {"key": shape, "optional?": shape} for an object with at least
these keys, or [shape] for a list of any length.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specialm.common.names import is_name


@dataclass(frozen=True)
class Kind:
    """Values that pass a test, and what they are called."""

    what: str
    holds: Callable[[Any], bool]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


TEXT = Kind("a text", lambda value: isinstance(value, str))
NAME = Kind(
    "a name without path separators", lambda value: isinstance(value, str) and is_name(value)
)
NAME_OR_NONE = Kind("a name or empty", lambda value: value == "" or NAME.holds(value))
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
WHOLE = Kind("a whole number", _is_whole)
SIZE = Kind(
    "a whole number from 1 to 2^31", lambda value: _is_whole(value) and 0 < value <= 1 << 31
)
NUMBER = Kind("a number", _is_number)
AMOUNT = Kind("a number of at least 0", lambda value: _is_number(value) and value >= 0)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))

Shape = Kind | dict | list


def problem(value: Any, shape: Shape, place: str = "") -> str:
    """Return what is wrong with a value, with the place in it; "" if nothing is."""
    called = place or "the whole"
    if isinstance(shape, Kind):
        return "" if shape.holds(value) else f"{called} is {_short(value)}, not {shape.what}"
    if isinstance(shape, list):
        if not isinstance(value, list | tuple):
            return f"{called} is {_short(value)}, not a list"
        found = (problem(item, shape[0], f"{place}[{i}]") for i, item in enumerate(value))
        return next(filter(None, found), "")
    if not isinstance(value, dict):
        return f"{called} is {_short(value)}, not an object"
    return next(filter(None, (_of_key(value, k, s, place) for k, s in shape.items())), "")


def _of_key(value: dict, key: str, shape: Shape, place: str) -> str:
    name, optional = key.removesuffix("?"), key.endswith("?")
    called = f"{place}.{name}".lstrip(".")
    if name in value:
        return problem(value[name], shape, called)
    return "" if optional else f"{called} is missing"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
