"""Labelled examples: texts and pairs of texts with a class, questions with the span that answers.

    jsonl:PATH, or PATH        JSON lines; .gz and .zst are unpacked
    tfds:NAME[:SPLIT]          a set of `labelled_tfds.SETS`; with ?language=de if it holds several

A JSON line has either `text`, or `text_a` and `text_b`, and a `label`; or `context`, `question` and
`answers`, in either layout of SQuAD (arXiv 1606.05250): a list of {text, answer_start}, or the two
as lists, with starts in characters. `language` of a line says how answers are compared.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError
from specialm.data import labelled_tfds
from specialm.data.documents import MAX_BYTES, chance
from specialm.data.packed_files import read_lines

CLASSIFICATION, SPANS = "classification", "spans"
VALID_PART = 10  # one in so many groups is held out for validation, where no set is given


@dataclass(frozen=True)
class Example:
    """One example of either kind.

    Attributes:
      texts: a text, a pair of texts, or a question and the context that answers it.
      label: the class; "" of a question.
      answers: (text, its first character in the context) of each right answer.
      language: of the answers, such as "de"; "" if it is not known.
    """

    texts: tuple[str, ...]
    label: str = ""
    answers: tuple[tuple[str, int], ...] = ()
    language: str = ""

    @property
    def kind(self) -> str:
        """CLASSIFICATION or SPANS."""
        return SPANS if self.answers else CLASSIFICATION

    @property
    def group(self) -> str:
        """What other examples may share: the context, or the first text."""
        return self.texts[1] if self.answers else self.texts[0]


@dataclass(frozen=True)
class Labelled:
    """A set of examples of one kind.

    Attributes:
      spec: what it was read from.
      left_out: examples of a data set of others without a label, or whose answer is not there.
    """

    spec: str
    examples: tuple[Example, ...]
    left_out: int = 0

    @property
    def kind(self) -> str:
        """CLASSIFICATION or SPANS."""
        return self.examples[0].kind

    def split(self) -> tuple["Labelled", "Labelled"]:
        """(training, validation): by a hash of each example's group, so that the same context is
        not on both sides.

        Raises:
          UserError: one of them would be empty.
        """
        parts: tuple[list[Example], list[Example]] = [], []
        for example in self.examples:
            parts[chance("task validation", example.group) % VALID_PART == 0].append(example)
        if not all(parts):
            raise UserError(
                f"--task={self.spec}: {len(self.examples)} examples are too few to hold some out "
                "for validation; give more, or a set of its own with --valid."
            )
        train, valid = parts
        return Labelled(self.spec, tuple(train)), Labelled(self.spec, tuple(valid))


def read(spec: str, option: str) -> Labelled:
    """The examples that `spec` names.

    Args:
      option: that it was given with, for errors.

    Raises:
      UserError: an unknown scheme or data set, a file that cannot be read, a line that is no
        example (with its number), examples of both kinds, or none.
    """
    scheme, _, rest = spec.partition(":")
    scheme, rest = (scheme, rest) if scheme in READERS else ("jsonl", spec)
    made, left_out = READERS[scheme](f"--{option}={spec}", rest)
    if not made:
        raise UserError(f"--{option}={spec}: has no examples ({left_out} were left out).")
    if len({example.kind for example in made}) > 1:
        raise UserError(
            f"--{option}={spec}: some lines have answers and some a label; a task has one kind."
        )
    return Labelled(spec, tuple(made), left_out)


def _read_jsonl(given: str, rest: str) -> tuple[list[Example], int]:
    path = Path(rest)
    if not path.is_file():
        known = ", ".join(f"{name}:" for name in READERS)
        raise UserError(f"{given}: no such file; give one of JSON lines, or {known}... .")
    found = []
    for number, line in enumerate(read_lines(path, MAX_BYTES), 1):
        try:
            if line is None:
                raise ValueError(f"is longer than {MAX_BYTES:,} bytes.")
            if line.strip():
                found.append(example(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: line {number}: {_said(error)}") from error
    return found, 0


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"has no {error.args[0]!r}."
    return f"is not JSON ({error})." if isinstance(error, json.JSONDecodeError) else f"{error}"


def _read_tfds(given: str, rest: str) -> tuple[list[Example], int]:
    found, left_out = [], 0
    for row in labelled_tfds.rows(given, rest):
        try:
            found.append(example(row))
        except ValueError:
            left_out += 1
    return found, left_out


# scheme -> (the option as given, what follows the scheme) -> (examples, how many were left out)
READERS: dict[str, Callable[[str, str], tuple[list[Example], int]]] = {
    "jsonl": _read_jsonl,
    "tfds": _read_tfds,
}


def example(row: Any) -> Example:
    """The example of one row.

    Raises:
      KeyError: a field is missing.
      ValueError: a field is of another type or empty, or an answer is not where it says.
    """
    if not isinstance(row, dict):
        raise ValueError("is not an object.")
    if "answers" in row:
        return _question(row)
    if "label" not in row:
        raise ValueError(
            f"has the fields {', '.join(map(str, row))}; an example has a label, or answers."
        )
    names = ("text",) if "text" in row else ("text_a", "text_b")
    label = row["label"]
    if not isinstance(label, str | int) or label == "":
        raise ValueError(f"its label {label!r} is neither a text nor a whole number.")
    return Example(tuple(_text(row, name) for name in names), str(label))


def _question(row: dict) -> Example:
    context = _text(row, "context")
    answers = row["answers"]
    if isinstance(answers, dict):
        pairs = zip(answers["text"], answers["answer_start"], strict=True)
        answers = [{"text": text, "answer_start": start} for text, start in pairs]
    found = tuple((each["text"], int(each["answer_start"])) for each in answers)
    if not found:
        raise ValueError("has no answer; questions that the context does not answer are not taken.")
    for text, start in found:
        if start < 0 or not text or context[start : start + len(text)] != text:
            raise ValueError(f"its answer {text!r} is not at character {start} of its context.")
    return Example((_text(row, "question"), context), "", found, str(row.get("language") or ""))


def _text(row: dict, name: str) -> str:
    if not isinstance(row[name], str) or not re.search(r"\S", row[name]):
        raise ValueError(f"its field {name!r} holds no text.")
    row[name].encode()  # JSON can spell what is not Unicode: a ValueError
    return row[name]


def labels(examples: Sequence[Example]) -> tuple[str, ...]:
    """The classes, in order; none of questions.

    Raises:
      UserError: there is only one.
    """
    found = sorted({each.label for each in examples if each.label})
    if len(found) == 1:
        raise UserError(f"--task: all examples have the label {found[0]!r}; there must be two.")
    return tuple(found)
