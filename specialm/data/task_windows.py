"""Labelled examples as windows of tokens that a model with a head for the task reads.

A window is the parts of an example, each with the end of a document after it: a text; a pair; a
question and its context. What stands before a window in pretraining stands before it here. Texts
too long for a window lose their ends, the longest first. A context too long for one is read in
several, each half a window further, so that a span of up to half a window is whole in one of them.
How often either happens is counted.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.labelled import CLASSIFICATION, SPANS, Example
from specialm.data.vocabularies import Vocabulary

MULTIPLE = 8  # a window's length is one, so that few lengths are compiled
CODED = 4096  # texts that are encoded at a time


@dataclass(frozen=True)
class TaskWindows:
    """The windows of a set of examples; `batch` reads them as a window store does.

    Attributes:
      examples: the set.
      columns: `inputs` int32 [N, L]; `present` float32 [N, L], 1 for its tokens; `mask` float32
        [N], ones; and of classification `label` int32 [N], of spans `span` int32 [N, 2] and
        `allowed` float32 [N, L], see `_add_spans`.
      example_N: int64 [N], the example of each window.
      offset_N: of spans int64 [N], the first token of the context in each window, and `place_N`
        int64 [N], where it stands.
      ends: of spans, of each example: bytes of the context up to the end of each of its tokens.
      cut: examples that lost some of their text.
      divided: of spans, examples that are read in several windows.
      unseen: of these, those whose answer is whole in none of them.
    """

    examples: Sequence[Example]
    columns: dict[str, np.ndarray]
    example_N: np.ndarray
    offset_N: np.ndarray
    place_N: np.ndarray
    ends: list[np.ndarray]
    cut: int
    divided: int
    unseen: int

    def __len__(self) -> int:
        return len(self.example_N)

    @property
    def context(self) -> int:
        """L, tokens of a window."""
        return self.columns["inputs"].shape[1]

    @cached_property
    def sizes_N(self) -> np.ndarray:
        """int64 [N]: the tokens of each window."""
        return self.columns["present"].sum(1).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Of the content."""
        digest = hashlib.sha256()
        for name in sorted(self.columns):
            digest.update(np.ascontiguousarray(self.columns[name]).tobytes())
        return digest.hexdigest()[:16]

    def batch(self, indices_B: np.ndarray) -> dict[str, np.ndarray]:
        """These windows."""
        return {name: values[indices_B] for name, values in self.columns.items()}


def digest(examples: Sequence[Example]) -> str:
    """Identifies a set of examples."""
    found = hashlib.sha256()
    for each in examples:
        found.update(json.dumps(asdict(each), sort_keys=True).encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]


def make(
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    longest: int,
    causal: bool,
    labels: Sequence[str],
) -> TaskWindows:
    """Windows of at most `longest` tokens, all as long as the longest of them needs.

    Args:
      examples: of one kind.
      causal: of the model, which reads `vocabulary.start` first if it is.
      labels: the classes, whose places are the targets; none of questions.

    Raises:
      UserError: `longest` leaves no room for text.
    """
    start = [vocabulary.start] if causal else []
    parts = [_encoded([each.texts[i] for each in examples], vocabulary) for i in _places(examples)]
    fixed = len(start) + len(parts)
    if longest < fixed + 2 * len(parts):
        raise UserError(f"--length={longest}: must be at least {fixed + 2 * len(parts)}.")
    kind = examples[0].kind
    pieces = PIECES[kind](list(zip(*parts, strict=True)), longest - fixed)
    rows = [
        (start + [token for part in of for token in (*part, vocabulary.eos)]) for _, _, of in pieces
    ]
    length = -(-max(map(len, rows)) // MULTIPLE) * MULTIPLE
    columns = _padded(rows, min(length, longest))
    example_N = np.array([number for number, _, _ in pieces], np.int64)
    offset_N = np.array([offset for _, offset, _ in pieces], np.int64)
    place_N = np.array([len(start) + len(of[0]) + 1 for _, _, of in pieces], np.int64)
    kept = np.bincount(example_N, [sum(map(len, of)) for _, _, of in pieces])
    whole = np.array([sum(map(len, each)) for each in zip(*parts, strict=True)])
    ends: list[np.ndarray] = []
    if kind == CLASSIFICATION:
        columns["label"] = np.array([labels.index(examples[i].label) for i in example_N], np.int32)
        cut, divided, unseen = int((kept < whole).sum()), 0, 0
    else:
        ends = [
            np.cumsum(vocabulary.window_bytes(e.texts[1], tokens, np.arange(len(tokens)) + 1))
            for e, tokens in zip(examples, parts[1], strict=True)
        ]
        _add_spans(columns, examples, example_N, offset_N, place_N, ends)
        questions = {n: len(of[0]) for n, _, of in pieces}
        cut = sum(questions[n] < len(tokens) for n, tokens in enumerate(parts[0]))
        divided = int((np.bincount(example_N) > 1).sum())
        unseen = len(examples) - len({*example_N[_has_answer(columns)]})
    return TaskWindows(examples, columns, example_N, offset_N, place_N, ends, cut, divided, unseen)


def _places(examples: Sequence[Example]) -> range:
    sizes = {len(each.texts) for each in examples}
    if len(sizes) > 1:
        raise UserError("--task: some examples are a text and some a pair; a task has one kind.")
    return range(sizes.pop())


def _encoded(texts: list[str], vocabulary: Vocabulary) -> list[list[int]]:
    found: list[list[int]] = []
    title = "cutting into tokens" if len(texts) > CODED else ""
    with bar(len(texts), title, "text") as progress:
        for start in range(0, len(texts), CODED):
            found += vocabulary.encode(texts[start : start + CODED])
            progress.update(len(found) - start)
    return found


def _padded(rows: list[list[int]], length: int) -> dict[str, np.ndarray]:
    inputs_NxL = np.zeros((len(rows), length), np.int32)
    present_NxL = np.zeros((len(rows), length), np.float32)
    for number, row in enumerate(rows):
        inputs_NxL[number, : len(row)] = row
        present_NxL[number, : len(row)] = 1
    return {"inputs": inputs_NxL, "present": present_NxL, "mask": np.ones(len(rows), np.float32)}


# What a window has of an example: its number, the first token of its last part, and each part.
Piece = tuple[int, int, tuple[list[int], ...]]


def _cut(examples: list[tuple[list[int], ...]], room: int) -> list[Piece]:
    """One window for each example."""
    return [
        (number, 0, tuple(part[:size] for part, size in zip(of, _kept(of, room), strict=True)))
        for number, of in enumerate(examples)
    ]


def _kept(parts: Sequence[list[int]], room: int) -> list[int]:
    """How many tokens of each part stay: the longest ones lose theirs first."""
    kept = [0] * len(parts)
    order = sorted(range(len(parts)), key=lambda i: len(parts[i]))
    for rank, i in enumerate(order):
        kept[i] = min(len(parts[i]), room // (len(order) - rank))
        room -= kept[i]
    return kept


def _divided(examples: list[tuple[list[int], ...]], room: int) -> list[Piece]:
    """Of a question, at most half of the room, and its context as many windows as that takes."""
    found: list[Piece] = []
    for number, (question, context) in enumerate(examples):
        question = question[: room // 2]
        size = room - len(question)
        step = -(-size // 2)
        last = max(0, len(context) - size)
        starts = [*range(0, last, step), last]
        found += [(number, at, (question, context[at : at + size])) for at in starts]
    return found


PIECES = {CLASSIFICATION: _cut, SPANS: _divided}


def _has_answer(columns: dict[str, np.ndarray]) -> np.ndarray:
    """bool [N]: windows whose span is not the token that stands for none."""
    return columns["span"][:, 0] < columns["present"].sum(1) - 1


def _add_spans(columns, examples, example_N, offset_N, place_N, ends) -> None:
    """Adds `allowed`, 1 for the tokens of the context and for the last token of all, which stands
    for no answer in this window, and `span`, the first and the last token of the first answer, or
    that token twice where the window does not have all of it.
    """
    present_NxL = columns["present"]
    none_N = present_NxL.sum(1).astype(np.int64) - 1
    places_L = np.arange(present_NxL.shape[1])
    within_NxL = (places_L >= place_N[:, None]) & (places_L <= none_N[:, None])
    columns["allowed"] = within_NxL.astype(np.float32)
    span_Nx2 = np.zeros((len(example_N), 2), np.int32)
    for row, number in enumerate(example_N):
        (text, first), context = examples[number].answers[0], examples[number].texts[1]
        before = len(context[:first].encode())
        after = before + len(text.encode())
        begin = int(np.searchsorted(ends[number], before, "right")) - offset_N[row]
        end = int(np.searchsorted(ends[number], after, "left")) - offset_N[row]
        size = none_N[row] - place_N[row]
        whole = begin >= 0 and end < size
        span_Nx2[row] = (begin + place_N[row], end + place_N[row]) if whole else none_N[row]
    columns["span"] = span_Nx2
