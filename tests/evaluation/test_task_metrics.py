"""Accuracy and macro F1 against scikit-learn; answers against cases worked by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from specialm.data import task_windows
from specialm.data.labelled import Example
from specialm.evaluation import answers, task_metrics

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


@given(PAIRS)
def test_macro_f1_is_that_of_scikit_learn(pairs):
    right, given = map(np.array, zip(*pairs, strict=True))
    wanted = sklearn_metrics.f1_score(right, given, average="macro")
    assert task_metrics.macro_f1(right, given) == pytest.approx(wanted)


def test_figures_of_classes(bpe_vocabulary):
    labels = ("no", "yes", "perhaps")
    examples = [
        Example((text,), label) for text, label in zip("abcde", ["yes", "no"] * 3, strict=False)
    ]
    windows = task_windows.make(examples, bpe_vocabulary, 16, True, labels)
    log_p = np.log(
        [[0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.1, 0.9, 0], [0, 1, 0]]
        + np.float64(1e-9)
    )
    given, figures = task_metrics.of_classes(log_p, windows, labels)
    assert given == ["yes", "no", "perhaps", "yes", "yes"]
    right = [example.label for example in examples]
    assert figures["accuracy"] == sklearn_metrics.accuracy_score(right, given) == 0.6
    wanted = sklearn_metrics.f1_score(right, given, average="macro")
    assert figures["macro_f1"] == pytest.approx(wanted)
    assert figures["majority"] == 0.6
    low, high = figures["interval"]
    assert low == pytest.approx(0.2307, abs=1e-4) and high == pytest.approx(0.8824, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("The Elbe, a river!", "en", ["elbe", "river"]),
        ("The Elbe", "", ["elbe"]),
        ("«Die Elbe» – einer der Flüsse", "de", ["elbe", "flüsse"]),
        ("La Habana, Cuba", "es", ["habana", "cuba"]),
        ("La Habana", "en", ["la", "habana"]),
        ("中国 1949年。", "zh", ["中", "国", "1949", "年"]),
        ("中国 1949年。", "ja", ["中国", "1949年"]),
        ("của Việt Nam", "vi", ["việt", "nam"]),
        ("ألمانيا البلد", "ar", ["ألمانيا", "بلد"]),
        ("यह, भारत।", "hi", ["यह", "भारत"]),
        ("The ... ,", "en", []),
    ],
)
def test_words_that_are_compared(text, language, words):
    assert answers.words(text, language) == words


@pytest.mark.parametrize(
    ("text", "right", "exact", "f1"),
    [
        ("the Elbe.", ["Elbe"], True, 1.0),
        ("river Elbe", ["Elbe"], False, 2 / 3),  # precision 1/2, recall 1
        ("Elbe", ["Oder", "big river Elbe"], False, 0.5),  # precision 1, recall 1/3
        ("b b c", ["b c c"], False, 2 / 3),  # b and c once each, of three and three
        ("Oder", ["Elbe"], False, 0.0),
        ("", ["Elbe"], False, 0.0),
        ("the", ["a"], True, 0.0),  # nothing is left of either: as the script has it
    ],
)
def test_exact_match_and_f1(text, right, exact, f1):
    assert answers.exact(text, right, "en") == exact
    assert answers.f1(text, right, "en") == pytest.approx(f1)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_best_span_is_the_best_of_all(size, longest, seed):
    log_p = np.random.default_rng(seed).normal(size=(size, 2))
    spans = [
        (log_p[i, 0] + log_p[j, 1], i, j)
        for i, j in itertools.product(range(size), repeat=2)
        if i <= j < i + longest
    ]
    assert task_metrics.best_span(log_p, longest) == pytest.approx(max(spans))


def test_the_answer_is_that_of_the_likeliest_window(bpe_vocabulary):
    """Of a context in several windows; one question of two is answered right."""
    context = "The Elbe flows through Dresden and on to Hamburg, and then into the sea."
    examples = [
        Example(("Where?", context), "", (("Hamburg", context.index("Hamburg")),), "en"),
        Example(("Which?", context), "", (("The Elbe", 0),), "en"),
    ]
    windows = task_windows.make(examples, bpe_vocabulary, 32, True, ())
    assert windows.divided == 2
    log_p = np.full((len(windows), windows.context, 2), -9.0)
    for row, number in enumerate(windows.example_N):
        first, last = windows.columns["span"][row]
        none = windows.sizes_N[row] - 1
        log_p[row, none] = -0.1  # never an answer, however likely
        if number == 0 and first != none:
            log_p[row, first, 0] = log_p[row, last, 1] = -1.0
        if number == 1:
            log_p[row, windows.place_N[row], :] = -2.0 - row
    given, figures = task_metrics.of_spans(log_p, windows, ())
    assert "Hamburg" in given[0] and len(given[0]) < 12
    first_token = bpe_vocabulary.encode([context])[0][:1]
    assert given[1] == bpe_vocabulary.decode(first_token).strip()
    assert figures["exact_match"] == np.mean(
        [answers.exact(a, [b]) for a, b in zip(given, ["Hamburg", "The Elbe"], strict=True)]
    )
    assert figures["f1"] >= figures["exact_match"]
