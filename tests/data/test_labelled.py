"""Labelled examples: files in every layout, the sets of TFDS, windows, and what is said of wrong
input."""

import json

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.data import labelled, labelled_tfds, task_windows
from specialm.data.labelled import Example
from specialm.data.vocabularies import plain_bytes

CONTEXT = "Der Fluß heißt Elbe. Die Stadt heißt Dresden."
ASKED = {"question": "Wie heißt die Stadt?", "context": CONTEXT}
ANSWER = {"text": "Dresden", "answer_start": CONTEXT.index("Dresden")}


def test_lines_of_every_layout(tmp_path, write_jsonl):
    lists = {"text": ["Dresden"], "answer_start": [ANSWER["answer_start"]]}
    single = write_jsonl(tmp_path / "a.jsonl", [{"text": "one", "label": 3}])
    pairs = write_jsonl(tmp_path / "b.jsonl", [{"text_a": "one", "text_b": "two", "label": "x"}])
    asked = [{**ASKED, "answers": [ANSWER], "language": "de"}, {**ASKED, "answers": lists}]
    spans = write_jsonl(tmp_path / "c.jsonl", asked)
    assert labelled.read(str(single), "task").examples == (Example(("one",), "3"),)
    assert labelled.read(f"jsonl:{pairs}", "task").examples == (Example(("one", "two"), "x"),)
    found = labelled.read(str(spans), "task")
    answers = (("Dresden", ANSWER["answer_start"]),)
    one = Example((ASKED["question"], CONTEXT), "", answers, "de")
    assert found.examples == (one, Example(one.texts, "", answers)) and found.kind == "spans"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "one"}, "line 1: has the fields text; an example has a label, or answers"),
        ({"text": "one", "label": ""}, "its label '' is neither a text nor a whole number"),
        ({"text": "one", "label": 0.5}, "its label 0.5 is neither"),
        ({"text_a": "one", "label": "x"}, "line 1: has no 'text_b'"),
        ({"text": " ", "label": "x"}, "its field 'text' holds no text"),
        ({**ASKED, "answers": []}, "has no answer"),
        (
            {**ASKED, "answers": [{"text": "Dresden", "answer_start": 3}]},
            "its answer 'Dresden' is not at character 3",
        ),
        ([1], "is not an object"),
        (None, "has no examples"),
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path, line, message):
    path = tmp_path / "task.jsonl"
    path.write_text("" if line is None else json.dumps(line))
    with pytest.raises(UserError, match=message):
        labelled.read(str(path), "task")


def test_what_cannot_be_read_is_named(tmp_path, write_jsonl):
    with pytest.raises(UserError, match="--test=nowhere: no such file; give one of JSON lines"):
        labelled.read("nowhere", "test")
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"bad.jsonl: line 1: is not JSON"):
        labelled.read(str(tmp_path / "bad.jsonl"), "task")
    both = [{"text": "a", "label": 1}, {**ASKED, "answers": [ANSWER]}]
    with pytest.raises(UserError, match="some lines have answers and some a label"):
        labelled.read(str(write_jsonl(tmp_path / "both.jsonl", both)), "task")
    with pytest.raises(UserError, match="all examples have the label 'x'; there must be two"):
        labelled.labels([Example(("a",), "x"), Example(("b",), "x")])
    with pytest.raises(UserError, match="1 examples are too few"):
        labelled.Labelled("f", (Example(("a",), "x"),)).split()


def test_validation_shares_no_context_with_training():
    examples = tuple(Example((f"q{i}", f"context {i % 40}"), "", (("c", 0),)) for i in range(400))
    train, valid = labelled.Labelled("f", examples).split()
    assert {e.group for e in train.examples}.isdisjoint(e.group for e in valid.examples)
    assert sorted(train.examples + valid.examples, key=str) == sorted(examples, key=str)
    assert 0 < len(valid.examples) < 120


@needs.SEQIO
@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("multi_nli", ["contradiction", "entailment", "neutral"]),
        ("xtreme_pawsx/de", ["different_meaning", "paraphrase"]),
        ("paws_x_wiki/de:test", ["different_meaning", "paraphrase"]),
    ],
)
def test_pairs_of_tfds(tmp_path, spec, names):
    """The features are the installed builders' own, their values made up."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=40):
        found = labelled.read(f"tfds:{spec}", "task")
    assert len(found.examples) == 40 and found.left_out == 0
    assert list(labelled.labels(found.examples)) == names
    assert all(len(example.texts) == 2 for example in found.examples)


def given_instead(monkeypatch, name, rows):
    """These rows in place of a set's own, with the features of its builder."""
    import tensorflow_datasets as tfds

    class Found(list):
        dataset_info = tfds.builder(name).info

    encode = Found.dataset_info.features.encode_example
    made = Found([encode(row) for row in rows])
    monkeypatch.setattr(tfds, "data_source", lambda given, split: made)


@needs.SEQIO
@pytest.mark.parametrize("spec", ["xtreme_xnli?language=de", "xnli:validation?language=de"])
def test_one_language_of_many_in_tfds(spec, monkeypatch):
    languages = "ar bg de el en es fr hi ru sw th tr ur vi zh".split()
    texts = {language: f"premise {language}" for language in languages}
    rows = [
        {"premise": texts, "hypothesis": {"en": "one", "de": "eins"}, "label": "neutral"},
        {"premise": texts, "hypothesis": {"en": "two"}, "label": "entailment"},
    ]
    given_instead(monkeypatch, spec.partition("?")[0].partition(":")[0], rows)
    found = labelled.read(f"tfds:{spec}", "task")
    assert found.examples == (Example(("premise de", "eins"), "neutral"),)
    assert found.left_out == 1


@needs.SEQIO
@pytest.mark.parametrize(("spec", "language"), [("mlqa/de:test", "de"), ("squad/v1.1", "en")])
def test_answers_of_tfds(spec, language, monkeypatch):
    """The second answer is not where it says."""
    good = {"text": ["Dresden"], "answer_start": [ANSWER["answer_start"]]}
    bad = {"text": ["Dresden"], "answer_start": [0]}
    rows = [{**ASKED, "id": "1", "title": "Elbe", "answers": each} for each in (good, bad)]
    given_instead(monkeypatch, spec.partition(":")[0], rows)
    found = labelled.read(f"tfds:{spec}", "task")
    answers = (("Dresden", ANSWER["answer_start"]),)
    assert found.examples == (Example((ASKED["question"], CONTEXT), "", answers, language),)
    assert found.left_out == 1


@needs.SEQIO
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:glue", "--task=tfds:glue: no such task; there are multi_nli, xtreme_xnli, xnli"),
        ("tfds:xnli:test", "say which language, as in .language=de"),
        ("tfds:mlqa/de:test?language=de", "leave out ?"),
        ("tfds:xnli:test?language=xx", "no language 'xx'; there are ar, bg, de"),
    ],
)
def test_a_set_that_there_is_not_is_named(spec, message):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=1), pytest.raises(UserError, match=message):
        labelled.read(spec, "task")


def test_a_label_that_nobody_gave_is_left_out():
    row = labelled_tfds.SETS["multi_nli"].row(
        {"premise": "a", "hypothesis": "b", "label": -1}, "en", ["x"]
    )
    with pytest.raises(ValueError, match="its label ''"):
        labelled.example(row)


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A vocabulary of bytes."""
    return plain_bytes.train([], tmp_path_factory.mktemp("bytes") / plain_bytes.FILE, 259)


def window(letters, made, row):
    """The tokens of a window as text, with | for ends and ^ for what stands before it."""
    size = made.sizes_N[row]
    tokens = made.columns["inputs"][row, :size].tolist()
    marks = {letters.eos: "|", letters.start: "^"}
    return "".join(marks.get(token) or chr(token - 3) for token in tokens)


def test_windows_of_a_class(letters):
    examples = [Example(("ab",), "y"), Example(("abcdefghij",), "x")]
    made = task_windows.make(examples, letters, 8, True, ("x", "y"))
    assert [window(letters, made, row) for row in (0, 1)] == ["^ab|", "^abcdef|"]
    assert made.columns["label"].tolist() == [1, 0] and (made.cut, made.divided) == (1, 0)
    made = task_windows.make(examples, letters, 16, False, ("x", "y"))
    assert [window(letters, made, row) for row in (0, 1)] == ["ab|", "abcdefghij|"]
    assert made.context == 16 and made.cut == 0
    np.testing.assert_array_equal(made.columns["present"].sum(1), [3, 11])


def test_the_longer_text_of_a_pair_is_cut(letters):
    examples = [Example(("abcdefghijk", "xyz"), "y"), Example(("ab", "c" * 99), "x")]
    made = task_windows.make(examples, letters, 11, False, ("x", "y"))
    assert [window(letters, made, row) for row in (0, 1)] == ["abcdef|xyz|", "ab|ccccccc|"]
    assert made.cut == 2


def test_windows_of_a_context_that_does_not_fit(letters):
    """Each half a window further; the answer is a target where all of it is there."""
    context = "0123456789abcdefghij"
    example = Example(("q", context), "", (("9ab", 9),))
    made = task_windows.make([example], letters, 12, True, ())
    texts = [window(letters, made, row) for row in range(len(made))]
    assert texts == ["^q|01234567|", "^q|456789ab|", "^q|89abcdef|", "^q|cdefghij|"]
    assert made.divided == 1 and made.cut == 0 and made.offset_N.tolist() == [0, 4, 8, 12]
    spans = made.columns["span"].tolist()
    assert spans == [[11, 11], [8, 10], [4, 6], [11, 11]]
    assert made.unseen == 0
    long = Example(("q", context), "", (("6789abc", 6),))
    assert task_windows.make([long], letters, 12, True, ()).unseen == 1
    assert made.columns["allowed"][0].tolist() == [0] * 3 + [1] * 9 + [0] * 0


@given(
    context=st.text(st.sampled_from("aä漢 b."), min_size=1, max_size=60),
    start=st.integers(0, 59),
    size=st.integers(1, 8),
    longest=st.integers(20, 60),
)
def test_a_target_is_the_answer(letters, context, start, size, longest):
    answer = context[start : start + size]
    if not answer or not context.strip():
        return
    example = Example(("why", context), "", ((answer, start),))
    made = task_windows.make([example], letters, longest, True, ())
    covered = set()
    for row in range(len(made)):
        offset, place = made.offset_N[row], made.place_N[row]
        last = made.sizes_N[row] - 1
        covered |= {*range(offset, offset + last - place)}
        first, end = made.columns["span"][row]
        if first != last:
            tokens = made.columns["inputs"][row, first : end + 1].tolist()
            assert letters.decode(tokens) == answer
    assert covered == set(range(len(context.encode())))  # nothing is left out
    if len(answer.encode()) <= (longest - 6) // 2:
        assert any(
            span[0] != size - 1
            for span, size in zip(made.columns["span"], made.sizes_N, strict=True)
        )


def test_pieces_of_a_vocabulary_cover_the_answer(vocabulary):
    """Tokens that reach beyond it are taken whole."""
    answer = ("Dresden", CONTEXT.index("Dresden"))
    made = task_windows.make([Example(("where", CONTEXT), "", (answer,))], vocabulary, 64, True, ())
    first, last = made.columns["span"][0]
    text = vocabulary.decode(made.columns["inputs"][0, first : last + 1].tolist())
    assert "Dresden" in text and len(text) < len("Dresden") + 8


def test_windows_without_room_are_refused(letters):
    with pytest.raises(UserError, match="--length=4: must be at least 7"):
        task_windows.make([Example(("a", "b"), "x")], letters, 4, True, ("x", "y"))
    mixed = [Example(("a",), "x"), Example(("a", "b"), "y")]
    with pytest.raises(UserError, match="some examples are a text and some a pair"):
        task_windows.make(mixed, letters, 16, True, ("x", "y"))
