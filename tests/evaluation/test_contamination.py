import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.evaluation import contamination
from specialm.evaluation.contamination import bands, find_contamination, jaccard, words

WINDOW = 60  # words


@pytest.fixture(scope="module")
def windows(real_documents):
    """Distinct real windows of 60 words."""
    made = []
    for text in real_documents:
        parts = text.split()
        made += [
            " ".join(parts[start : start + WINDOW])
            for start in range(0, len(parts) - WINDOW, WINDOW)
        ]
    return sorted(set(made))


def change(text, positions):
    """Replaces the words at these positions."""
    parts = text.split()
    for position in positions:
        parts[position] = "changed"
    return " ".join(parts)


def reference_jaccard(a, b, size):
    """Plain counting: each shingle is a string, looked up one by one."""

    def shingles(text):
        tokens = re.findall(r"\w+", text.lower())
        return sorted({" ".join(tokens[i : i + size]) for i in range(len(tokens) - size + 1)})

    a, b = shingles(a), shingles(b)
    both = sum(shingle in b for shingle in a)
    return both / (len(a) + len(b) - both) if a or b else 0.0


def reference_leaks(train, evaluation, threshold, size):
    """Nearest training window of each evaluation window by comparing all pairs."""
    found = []
    for i, text in enumerate(evaluation):
        similarity = [reference_jaccard(text, other, size) for other in train]
        best = int(np.argmax(similarity))
        if similarity[best] >= threshold:
            found.append((i, best, similarity[best]))
    return found


def test_the_pairs_are_those_of_comparing_all(windows):
    rng = np.random.default_rng(0)
    train, evaluation = windows[:150], windows[150:200]
    planted = [
        change(train[i], rng.choice(WINDOW, size, replace=False))
        for i, size in enumerate([0, 1, 1, 2, 2, 3, 4, 8, 20])
    ]
    evaluation = [*evaluation, *planted]
    for threshold in (0.8, 0.5):
        report = find_contamination(iter(train), evaluation, threshold)
        expected = reference_leaks(train, evaluation, threshold, 5)
        assert [found[:2] for found in report.leaked] == [found[:2] for found in expected]
        np.testing.assert_allclose(
            [found[2] for found in report.leaked], [found[2] for found in expected], rtol=1e-12
        )
        assert (report.checked, report.trained) == (59, 150)
    assert (50, 0, 1.0) in report.leaked
    assert {i for i, _, _ in report.leaked} >= set(range(50, 55))


def test_pairs_just_above_the_threshold_are_found(windows):
    # 5 changed words at a distance leave 31 of 56 shingles, a similarity of about 0.4.
    evaluation = [change(text, range(5, WINDOW, 12)) for text in windows[:400]]
    similarity = [reference_jaccard(a, b, 5) for a, b in zip(windows, evaluation, strict=False)]
    threshold = min(similarity)
    report = find_contamination(windows[:400], evaluation, threshold)
    assert 0.2 < threshold < np.median(similarity) < 0.5
    assert [i for i, _, _ in report.leaked] == list(range(400))


def test_unrelated_text_is_not_reported(windows):
    rng = np.random.default_rng(1)
    mixed = [" ".join(rng.permutation(text.split())) for text in windows[:100]]
    report = find_contamination(windows[:100], mixed)
    assert report.leaked == report.covered == []


@given(st.data())
def test_an_exact_copy_is_always_found(windows, data):
    text = data.draw(
        st.one_of(
            st.sampled_from(windows[:50]),
            st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.strip()),
        )
    )
    copy = data.draw(
        st.sampled_from([text, text.upper().lower(), f"  {text}\n", text.replace(" ", "  ")])
    )
    if words(copy) != words(text):  # a letter with no way back from upper case
        copy = text
    train = windows[50:60]
    place = data.draw(st.integers(0, len(train)))
    train = [*train[:place], copy, *train[place:]]
    report = find_contamination(train, [windows[60], text])
    assert (1, place, 1.0) in report.leaked
    assert report.too_short == (len(words(text)) < 5)


WORDS = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


@given(
    st.lists(WORDS, min_size=1, max_size=6),
    st.lists(WORDS, max_size=6),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
    st.integers(1, 4),
)
def test_nothing_below_the_threshold_is_reported_and_leaked_windows_are_covered(
    train, evaluation, threshold, size
):
    report = find_contamination(train, evaluation, threshold, size)
    covered = dict(report.covered)
    for i, number, similarity in report.leaked:
        if len(evaluation[i].split()) < size:
            assert train[number] == evaluation[i] and similarity == 1.0
            continue
        assert similarity >= threshold
        assert similarity == pytest.approx(
            reference_jaccard(evaluation[i], train[number], size), rel=1e-12
        )
        assert covered[i] >= similarity - 1e-12


@given(WORDS, WORDS, st.integers(1, 4))
def test_jaccard_is_that_of_counting(a, b, size):
    assert jaccard(a.split(), b.split(), size) == pytest.approx(reference_jaccard(a, b, size))


def test_a_copy_cut_at_other_places_is_covered(real_documents):
    parts = max(real_documents, key=len).split()[: 6 * WINDOW]

    def cut(first):
        return [
            " ".join(parts[start : start + WINDOW])
            for start in range(first, len(parts) - WINDOW + 1, WINDOW)
        ]

    train, evaluation = cut(0), cut(WINDOW // 2)
    report = find_contamination(train, evaluation)
    assert report.leaked == []
    assert [i for i, _ in report.covered] == list(range(len(evaluation)))
    # Only the shingles over the cut are new: 4 of them, more where punctuation makes words.
    assert all(0.8 <= share < 1 for _, share in report.covered)


def test_short_windows_are_counted_and_only_their_copies_found():
    report = find_contamination(
        ["See also", "the same five words here", "***", ""],
        ["see also:", "See", "the same five words here now", " *** ", ""],
        threshold=0.5,
    )
    assert report.too_short == 4
    assert report.leaked == [(0, 0, 1.0), (2, 1, 0.5), (3, 2, 1.0), (4, 3, 1.0)]


def test_the_first_of_equally_near_windows_is_named(windows):
    near = change(windows[0], [30])
    report = find_contamination([windows[1], near, windows[0], windows[0]], windows[:1])
    assert report.leaked == [(0, 2, 1.0)]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.8, 0.95, 1.0])
def test_bands_bound_the_misses_with_as_many_rows_as_do(threshold):
    def missed(rows):
        return (1 - threshold**rows) ** (128 // rows)

    count, rows = bands(threshold, 128)
    assert count == 128 // rows and missed(rows) <= contamination.MISSED
    assert rows == 64 or missed(rows + 1) > contamination.MISSED


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold=0.0"),
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"shingle": 0}, "shingle=0"),
        ({"permutations": 4}, "permutations=4"),
        ({"threshold": 0.05}, "threshold=0.05"),
        ({"permutations": 1}, "permutations=1"),
    ],
)
def test_settings_that_cannot_work_are_named(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        find_contamination(["some text"], ["some text"], **settings)


def test_no_windows_is_no_contamination():
    assert find_contamination([], []) == contamination.ContaminationReport(0, 0, 0, [], [])
    assert find_contamination(["a b c d e f"], []).trained == 1
    assert find_contamination([], ["a b c d e f"]).leaked == []


def test_windows_of_a_store_are_decoded(store, vocabulary, monkeypatch):
    monkeypatch.setattr(contamination, "DECODED", 7)
    indices = np.arange(20)[::-1]
    made = list(contamination.window_texts(store, vocabulary, indices))
    tokens = store.read(indices)
    assert made == [vocabulary.decode(tokens_L) for tokens_L in tokens]
    report = find_contamination(made, made[3:5], shingle=3)
    assert [(i, number) for i, number, _ in report.leaked] == [(0, 3), (1, 4)]


@pytest.mark.parametrize(("first", "count", "size"), [(0x4E00, 2000, 260), (0x0E01, 46, 290)])
def test_copies_of_text_without_spaces_are_found(first, count, size):
    """Windows of random letters of a script: copies with one letter changed, cut elsewhere, with
    other punctuation and spacing; unrelated text of the same letters is not reported."""
    rng = np.random.default_rng(0)

    def text(length):
        return "".join(chr(first + i) for i in rng.integers(0, count, length))

    long = text(20 * size)
    train = [long[start : start + size] for start in range(0, len(long), size)]
    changed = [f"{w[:50]}{chr(first)}{w[51:]}" for w in train]
    spaced = [f"{w[:40]}。 {w[40:80]}，{w[80:]}" for w in train]
    shifted = [w[size // 2 :] + v[: size // 2] for w, v in zip(train, train[1:], strict=False)]
    unrelated = [text(size) for _ in range(20)]
    report = find_contamination(train, [*changed, *spaced, *shifted, *unrelated])
    assert [i for i, *_ in report.leaked] == list(range(40))
    assert all(similarity == 1 for i, _, similarity in report.leaked if i >= 20)
    assert [i for i, _ in report.covered] == list(range(59))
    assert report.too_short == 0
