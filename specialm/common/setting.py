"""One setting: its default, the values that it may have, and what people read of it."""

import ast
import dataclasses
import difflib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specialm.common.errors import UserError

MOST = 2**31 - 1  # of a whole number without `most`: steps and sizes are 32 bits wide

# Names, or a function of the config (None: of no config in particular) that gives them.
Choices = Sequence[str] | Callable[[Any], Sequence[str]]

KINDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a tuple",
    dict: "a mapping",
}
PLURALS = {int: "whole numbers", float: "numbers", str: "words", tuple: "tuples of words"}


@dataclass(frozen=True)
class Setting:
    """One row of the table of settings.

    A number lies in [`least`, `most`], or above `above` and below `below`, and is finite. The
    bounds and the choices hold for every element of a tuple and every value of a mapping.
    """

    name: str  # dotted, as in train.tokens
    default: Any  # its type is that of the values
    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: Choices = ()
    divides: str = ""  # the setting that it divides, if it is not 0
    unless: str = ""  # another setting; where it is not 0 nothing has to be divided
    of: type = str  # of the elements of a tuple and the values of a mapping
    some: bool = False  # text, a tuple or a mapping that must not be empty
    words: tuple[str, ...] = ()  # that may stand in the place of a number
    kind: type | None = None  # that of the values, where the default is one of `words`

    @property
    def value_type(self) -> type:
        """Of the values."""
        return self.kind or type(self.default)

    @property
    def section(self) -> str:
        """What stands before the dot: "" for the settings of no section."""
        return self.name.rpartition(".")[0]

    @property
    def field(self) -> str:
        """The name without its section."""
        return self.name.rpartition(".")[2]

    def parse(self, text: str) -> Any:
        """The value that is written as `text` on the command line.

        Raises:
          ValueError: it is not of this setting's type.
        """
        return text if text in self.words else _parse(text, self.value_type, self.of)

    def allowed(self, config: Any = None) -> tuple[str, ...]:
        """The choices, () for any."""
        found = self.choices(config) if callable(self.choices) else self.choices
        return tuple(found)

    def check(self, value: Any, config: Any = None) -> None:
        """Raises UserError for a value out of the range; it names setting, value and range."""
        if not self._fits(value, config):
            raise UserError(
                f"{self.name}={_shown(value)}: must be {self.range(config, value)}."
                f"{self._near(value, config)}"
            )

    def check_division(self, find: Callable[[str], Any]) -> None:
        """Raises UserError for a value that does not divide the one that it has to.

        Args:
          find: name of a setting -> its value.
        """
        value = find(self.name) if self.divides else 0
        if not value or (self.unless and find(self.unless)):
            return
        if find(self.divides) % value:
            raise UserError(
                f"{self.name}={value} does not divide {self.divides}={find(self.divides)}."
            )

    def _fits(self, value: Any, config: Any) -> bool:
        if isinstance(value, str) and value in self.words:
            return True
        if not _is(value, self.value_type) or (self.some and not value):
            return False
        if self.value_type is tuple:
            return all(self._fits_one(each, self.of, config) for each in value)
        if self.value_type is dict:
            return all(self._fits_one(each, self.of, config) for each in value.values())
        return self._fits_one(value, self.value_type, config)

    def _fits_one(self, value: Any, kind: type, config: Any) -> bool:
        if not _is(value, kind):
            return False
        if kind is tuple:
            return all(isinstance(each, str) for each in value)
        if kind in (int, float):
            return self._in_range(value, kind)
        names = self.allowed(config) if kind is str else ()
        return not names or value in names

    def _in_range(self, value: float, kind: type) -> bool:
        most = MOST if kind is int and self.most is None else self.most
        return (
            (kind is int or math.isfinite(value))
            and (self.least is None or value >= self.least)
            and (most is None or value <= most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def range(self, config: Any = None, value: Any = None) -> str:
        """The values that it may have, in words.

        Args:
          value: one that it may not have: what is wrong with it is said alone.
        """
        known = _is(value, self.value_type)
        if self.value_type in (int, float):
            large = self.value_type is int and self.most is None and known and value > MOST
            text = f"at most {MOST:,}" if large else self._bounds(self.value_type)
            text = text if known else f"{KINDS[self.value_type]}, {text}".rstrip(", ")
            return text + "".join(f", or {word}" for word in self.words)
        if self.value_type is bool:
            return KINDS[bool]
        if self.value_type is str:
            return self._one_of(config) or ("text that is not empty" if self.some else "text")
        return self._several(config)

    def _several(self, config: Any) -> str:
        some = " that is not empty" if self.some else ""
        each = self._one_of(config) if self.of is str else ""
        if self.of in (int, float):
            each = self._bounds(self.of)
        text = f"{KINDS[self.value_type]} of {PLURALS[self.of]}{some}"
        return f"{text}, each {each}" if each else text

    def _one_of(self, config: Any) -> str:
        names = [name for name in self.allowed(config) if name]
        return f"one of {', '.join(names)}" if names else ""

    def _bounds(self, kind: type) -> str:
        if self.least is not None and self.most is not None:
            return f"between {_number(self.least)} and {_number(self.most)}"
        words = {"at least": self.least, "above": self.above, "at most": self.most}
        words["below"] = self.below
        parts = [f"{word} {_number(end)}" for word, end in words.items() if end is not None]
        if kind is float and (self.most is None and self.below is None):
            return ", and ".join([*parts, "finite"])
        return " and ".join(parts)

    def _near(self, value: Any, config: Any) -> str:
        for each in value if isinstance(value, tuple) else [value]:
            if isinstance(each, str) and self.choices and each not in self.allowed(config):
                return near(each, self.allowed(config))
        return ""


def near(word: str, words: Sequence[str]) -> str:
    """ " Did you mean 'train'?" for a misspelt word, or ""."""
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.4)
    return f" Did you mean {found[0]!r}?" if found else ""


@dataclass(frozen=True)
class Table:
    """Choices that are the names of a table of a module which a config is read without.

    If the module is there already, what a module of the user's has added is a choice too.
    """

    where: str  # MODULE:TABLE
    names: tuple[str, ...]

    def __call__(self, config: Any) -> tuple[str, ...]:
        """The names; they do not depend on the config."""
        module, _, attribute = self.where.partition(":")
        found = sys.modules.get(module)
        return tuple(getattr(found, attribute)) if found else self.names


def table(where: str, *names: str) -> Table:
    """The `Table` MODULE:TABLE, which has these names."""
    return Table(where, names)


def field(default: Any, help: str, **rest: Any) -> Any:  # noqa: A002 (as argparse names it)
    """A field of a frozen dataclass that is a setting too: `Setting` without its name."""
    return dataclasses.field(
        default=default, metadata={"setting": {"default": default, "help": help, **rest}}
    )


def settings_of(cls: Any, section: str) -> tuple[Setting, ...]:
    """The settings of a dataclass whose fields `field` made."""
    return tuple(
        Setting(f"{section}.{each.name}", **each.metadata["setting"])
        for each in dataclasses.fields(cls)
        if "setting" in each.metadata
    )


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is tuple:
        return isinstance(value, tuple | list)
    if kind is dict:
        return isinstance(value, Mapping) or hasattr(value, "items")
    return isinstance(value, kind)


def _parse(text: str, kind: type, of: type) -> Any:
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    if kind is int:
        return _whole(text)
    if kind is float:
        return float(text)
    if kind is tuple:
        return _tuple(text, of)
    if kind is dict:
        raise ValueError("one of its entries has to be named")
    return text


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        value = float(text)  # 4e6
        if not value.is_integer():
            raise ValueError(text) from None
        return int(value)


def _tuple(text: str, of: type) -> tuple:
    """("a", "b"), or a,b without quotes and brackets."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if text.strip().startswith(("(", "[")):
            raise ValueError(text) from None
        return tuple(_parse(word.strip(), of, str) for word in text.split(",") if word.strip())
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    if of is int:
        values = tuple(int(each) if _is_whole(each) else each for each in values)
    return tuple(str(each) for each in values) if of is str else values


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _shown(value: Any) -> str:
    text = repr(value.to_dict() if hasattr(value, "to_dict") else value)
    return text if len(text) < 200 else f"{text[:200]}..."
