"""How well a model with a head does its task: accuracy and macro F1 of classes, exact match and F1
of answers. Of each kind of task one function, which makes predictions of log p, too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from specialm.data.task_windows import TaskWindows
from specialm.evaluation import answers
from specialm.evaluation.tasks import wilson

LONGEST = 30  # tokens of an answer, as in BERT's own script (arXiv 1810.04805)
Found = tuple[list[str], dict[str, Any]]  # predictions, figures


def of_classes(log_p_NxC: np.ndarray, windows: TaskWindows, labels: Sequence[str]) -> Found:
    """`accuracy` with its 95% `interval`, `macro_f1`, and `majority`, what the most frequent label
    of the set alone would get.

    macro_f1 is the mean over the labels that are in the set or were predicted, as scikit-learn has
    it; a label without a right prediction has 0.
    """
    given_N, right_N = log_p_NxC.argmax(1), windows.columns["label"]
    hits = int((given_N == right_N).sum())
    counts_C = np.bincount(right_N, minlength=len(labels))
    figures = {
        "accuracy": hits / len(right_N),
        "interval": [*wilson(hits, len(right_N))],
        "macro_f1": macro_f1(right_N, given_N),
        "majority": float(counts_C.max() / len(right_N)),
    }
    return [labels[number] for number in given_N], figures


def macro_f1(right_N: np.ndarray, given_N: np.ndarray) -> float:
    """The mean of 2 TP / (2 TP + FP + FN) over all labels that either has."""
    scores = []
    for label in np.union1d(right_N, given_N):
        same = np.sum((right_N == label) & (given_N == label))
        scores.append(2 * same / (np.sum(right_N == label) + np.sum(given_N == label)))
    return float(np.mean(scores))


def of_spans(log_p_NxLx2: np.ndarray, windows: TaskWindows, labels: Sequence[str]) -> Found:
    """`exact_match` with its 95% `interval`, and `f1`: shares of 1, of all questions."""
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(windows.examples)
    for row, number in enumerate(windows.example_N):
        size = int(windows.sizes_N[row]) - 1 - int(windows.place_N[row])
        place, offset = int(windows.place_N[row]), int(windows.offset_N[row])
        score, first, last = best_span(log_p_NxLx2[row, place : place + size])
        if score > best[number][0]:
            ends = np.concatenate([[0], windows.ends[number]])
            content = windows.examples[number].texts[1].encode()
            piece = content[ends[offset + first] : ends[offset + last + 1]]
            best[number] = score, piece.decode(errors="ignore").strip()
    given = [text for _, text in best]
    exact = f1 = 0.0
    for text, example in zip(given, windows.examples, strict=True):
        right = [answer for answer, _ in example.answers]
        exact += answers.exact(text, right, example.language)
        f1 += answers.f1(text, right, example.language)
    count = len(given)
    interval = [*wilson(int(exact), count)]
    return given, {"exact_match": exact / count, "interval": interval, "f1": f1 / count}


def best_span(log_p_Lx2: np.ndarray, longest: int = LONGEST) -> tuple[float, int, int]:
    """(log p, first token, last token) of the likeliest span of at most so many tokens."""
    size = len(log_p_Lx2)
    sums_LxL = log_p_Lx2[:, None, 0] + log_p_Lx2[None, :, 1]
    places = np.arange(size)
    length_LxL = places[None, :] - places[:, None] + 1
    sums_LxL = np.where((length_LxL >= 1) & (length_LxL <= longest), sums_LxL, -np.inf)
    first, last = np.unravel_index(int(sums_LxL.argmax()), sums_LxL.shape)
    return float(sums_LxL[first, last]), int(first), int(last)


# kind -> (log p of `task_tuning.predict`, windows, labels) -> (prediction of each example, figures)
METRICS: dict[str, Callable[[np.ndarray, TaskWindows, Sequence[str]], Found]] = {
    "classification": of_classes,
    "spans": of_spans,
}
