r"""Questions with one right choice, from JSON lines in the layouts that are in use.

    minimal pair  sentence_good, sentence_bad (as in BLiMP)
    gap           sentence with a _, option1, option2, answer (WinoGrande)
    solutions     goal, sol1, sol2, label (PIQA)
    choices       question or ctx, context, query, prompt; choices, endings or options; answerKey,
                  label, gold or answer (ARC, HellaSwag, MMLU)

What is scored is a choice after its context. Of a `question` the context is "Question:
...\nAnswer:", as in lm-evaluation-harness; any other is taken as it is, and a space set before a
choice that begins with none. Of a gap the choices stand in the context, and what follows them is
scored (Trinh and Le, arXiv 1806.02847). Texts are not cleaned.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialm.common.errors import UserError

CONTEXTS = ("question", "ctx", "context", "query", "prompt")
CHOICES = ("choices", "endings", "options")
ANSWERS = ("answerKey", "label", "gold", "answer")
GROUPS = ("UID", "group")  # fields that say which questions belong together


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
      choices: (context, what is scored after it) of each.
      right: which of them is right.
      group: what it asks for, "" for nothing in particular.
    """

    choices: tuple[tuple[str, str], ...]
    right: int
    group: str = ""


def read(path: Path) -> list[Question]:
    """The questions of a file of JSON lines.

    Raises:
      UserError: with the file and the line, for what cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--tasks={path}: cannot be read ({error}).") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(question(json.loads(line)))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(f"{path}: line {number}: {_said(error)}") from error
    if not found:
        raise UserError(f"--tasks={path}: has no questions.")
    return found


def _said(error: Exception) -> str:
    return f"has no {error.args[0]!r}." if isinstance(error, KeyError) else f"{error}"


def question(row: Any) -> Question:
    """The question of one row.

    Raises:
      ValueError: a layout that is not known, or an answer that is none of the choices.
    """
    if not isinstance(row, dict):
        raise ValueError("is not an object.")
    for needed, parse in LAYOUTS:
        if all(any(name in row for name in names) for names in needed):
            choices, right = parse(row)
            if not 0 <= right < len(choices):
                raise ValueError(f"its answer is choice {right + 1} of {len(choices)}.")
            if len(choices) < 2 or not all(text for _, text in choices):
                raise ValueError("needs two choices or more, none of them empty.")
            return Question(tuple(choices), right, str(_first(row, GROUPS, "")))
    layouts = "; ".join(", ".join(" or ".join(names) for names in needed) for needed, _ in LAYOUTS)
    raise ValueError(f"has the fields {', '.join(map(str, row))}; a question has {layouts}.")


def _pair(row: dict) -> tuple[list, int]:
    return [("", row["sentence_good"]), ("", row["sentence_bad"])], 0


def _gap(row: dict) -> tuple[list, int]:
    before, gap, after = row["sentence"].partition("_")
    if not gap:
        raise ValueError("its sentence has no _.")
    return [(before + row[name], after) for name in ("option1", "option2")], int(row["answer"]) - 1


def _solutions(row: dict) -> tuple[list, int]:
    return [(row["goal"], _spaced(row[name])) for name in ("sol1", "sol2")], int(row["label"])


def _choices(row: dict) -> tuple[list, int]:
    if isinstance(row.get("question"), dict):  # as the files of ARC have it
        row = {**row, **row["question"], "question": row["question"]["stem"]}
    name = next(name for name in CONTEXTS if name in row)
    given = _first(row, CHOICES)
    labels = []
    if isinstance(given, dict):
        given, labels = given["text"], given["label"]
    elif given and isinstance(given[0], dict):
        given, labels = ([each[key] for each in given] for key in ("text", "label"))
    context = row[name].rstrip()
    if name == "question":
        context = f"Question: {context}\nAnswer:"
    texts = [str(text) for text in given]
    right = _right(_first(row, ANSWERS), [str(label) for label in labels], texts)
    return [(context, _spaced(text)) for text in texts], right


def _right(answer: Any, labels: list[str], texts: list[str]) -> int:
    """The place of the answer: a label, a number from 0 on, a letter, or the text of a choice."""
    text = str(answer)
    if text in labels:
        return labels.index(text)
    if text.isdecimal():
        return int(text)
    if len(text) == 1 and text.isalpha():
        return ord(text.upper()) - ord("A")
    if text in texts:
        return texts.index(text)
    raise ValueError(f"its answer {text!r} is none of the choices.")


def _spaced(text: str) -> str:
    return text if text[:1].isspace() else f" {text}"


def _first(row: dict, names: tuple[str, ...], *default: Any) -> Any:
    """The first of these fields that is there."""
    for name in names:
        if name in row:
            return row[name]
    if default:
        return default[0]
    raise KeyError(" or ".join(names))


# (for each field its names, how a row with all of them is read); the first that fits.
LAYOUTS: list[tuple[tuple[tuple[str, ...], ...], Callable[[dict], tuple[list, int]]]] = [
    ((("sentence_good",), ("sentence_bad",)), _pair),
    ((("sentence",), ("option1",), ("option2",), ("answer",)), _gap),
    ((("goal",), ("sol1",), ("sol2",), ("label",)), _solutions),
    ((CONTEXTS, (*CHOICES, "question"), ANSWERS), _choices),
]
