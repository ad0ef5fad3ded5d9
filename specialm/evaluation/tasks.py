"""Zero-shot tasks by likelihood: of each question the choice that a model finds likeliest.

A choice is right if its score is above that of every other: ties are wrong, so that a model to
which all is alike gets none right. Scores are log p of the choice after its context, and log p by
byte of the choice, which does not prefer short ones and is comparable between vocabularies.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.evaluation import minimal_pairs, questions
from specialm.evaluation.likelihood import Likelihoods
from specialm.evaluation.questions import Question

Json = dict[str, Any]
OWN = "pairs"  # the name of the minimal pairs of our own
NORMAL = 1.959964  # of a two-sided 95% interval


def load(text: str) -> dict[str, list[Question]]:
    """{name: questions} of what `--tasks` names: files with a comma between them, or "pairs".

    Raises:
      UserError: none, the same twice, or a file that cannot be read.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"--tasks is empty; give files of JSON lines, or {OWN}.")
    found: dict[str, list[Question]] = {}
    for name in names:
        label = name if name == OWN else Path(name).stem
        if label in found:
            raise UserError(f"--tasks={text}: {label} is there twice; name the files apart.")
        found[label] = minimal_pairs.make() if name == OWN else questions.read(Path(name))
    return found


def evaluate(likelihoods: Likelihoods, asked: Sequence[Question], title: str = "") -> Json:
    """Accuracies of a model: by log p, and by log p of a byte.

    Returns:
      JSON-able: see `_figures`; `groups` {group: the same} where there are several; `cut`, the
      choices whose context did not fit into the model's window.
    """
    pairs = [choice for question in asked for choice in question.choices]
    texts = likelihoods.starts([c for c, _ in pairs], [c + text for c, text in pairs])
    texts = _from_one_point(asked, texts)
    scored = likelihoods.score(texts, title)
    nats = np.array([each.nats for each in scored])
    sizes = np.array([len(text.encode()) for _, text in pairs])
    ends = np.cumsum([len(question.choices) for question in asked])
    right, right_by_byte = (
        np.array(
            [
                is_right(score[end - len(question.choices) : end], question.right)
                for question, end in zip(asked, ends, strict=True)
            ]
        )
        for score in (-nats, -nats / sizes)
    )
    groups = sorted({question.group for question in asked})
    report = _figures(asked, right, right_by_byte)
    report["cut"] = sum(each.cut for each in scored)
    if len(groups) > 1:
        report["groups"] = {
            group: _of_group(group, asked, right, right_by_byte) for group in groups
        }
    return report


def is_right(scores: np.ndarray, right: int) -> bool:
    """Whether this choice's score is above all others."""
    return bool(scores[right] > np.delete(scores, right).max())


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    share, z2 = right / count, NORMAL**2 / count
    middle = share + z2 / 2
    half = math.sqrt(z2 * share * (1 - share) + z2**2 / 4)
    return (middle - half) / (1 + z2), (middle + half) / (1 + z2)


def _from_one_point(
    asked: Sequence[Question], texts: list[tuple[list[int], int]]
) -> list[tuple[list[int], int]]:
    """The same, scored from one point of a context that all choices of a question share: their
    first tokens may have merged with its last ones in some and not in others.
    """
    found, start = [], 0
    for question in asked:
        own = texts[start : start + len(question.choices)]
        start += len(question.choices)
        if len({context for context, _ in question.choices}) == 1:
            first = min(first for _, first in own)
            own = [(tokens, first) for tokens, _ in own]
        found += own
    return found


def _figures(asked: Sequence[Question], right: np.ndarray, right_by_byte: np.ndarray) -> Json:
    """`questions`, `chance` (accuracy of a guess), and of both scores `accuracy` and its 95%
    `interval`.
    """
    count = len(asked)
    figures: Json = {
        "questions": count,
        "chance": float(np.mean([1 / len(question.choices) for question in asked])),
    }
    for name, hits in (("by_text", right), ("by_byte", right_by_byte)):
        total = int(hits.sum())
        figures[name] = {"accuracy": total / count, "interval": [*wilson(total, count)]}
    return figures


def _of_group(group: str, asked: Sequence[Question], right, right_by_byte) -> Json:
    own = np.array([question.group == group for question in asked])
    part = [question for question in asked if question.group == group]
    return _figures(part, right[own], right_by_byte[own])


def table(report: dict[str, Json]) -> str:
    """For people: accuracies with their intervals, chance beside."""
    lines = [f"{'task':34} {'questions':>9} {'chance':>7}   {'log p':20} log p / byte"]
    for task, figures in report.items():
        lines.append(_line(task, figures))
        lines += [_line(f"  {name}", of) for name, of in figures.get("groups", {}).items()]
        if figures["cut"]:
            lines.append(f"  {figures['cut']:,} contexts did not fit and lost their beginning")
    return "\n".join(lines)


def _line(name: str, figures: Json) -> str:
    cells = []
    for score in ("by_text", "by_byte"):
        low, high = figures[score]["interval"]
        cells.append(f"{figures[score]['accuracy']:.3f} [{low:.3f}, {high:.3f}]")
    return (
        f"{name:34} {figures['questions']:9,} {figures['chance']:7.3f}   {cells[0]:20} {cells[1]}"
    )
