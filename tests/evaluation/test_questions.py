import json

import pytest

from specialm.common.errors import UserError
from specialm.evaluation import minimal_pairs, questions
from specialm.evaluation.questions import Question

ARC = {"id": "x", "question": "What falls? ", "answerKey": "B"}


@pytest.mark.parametrize(
    "row,choices,right,group",
    [
        (
            {"sentence_good": "She sees.", "sentence_bad": "She see.", "UID": "agreement"},
            [("", "She sees."), ("", "She see.")],
            0,
            "agreement",
        ),
        (
            {"sentence": "Ann met Eve; _ was late.", "option1": "Ann", "option2": "Eve"}
            | {"answer": "2"},
            [("Ann met Eve; Ann", " was late."), ("Ann met Eve; Eve", " was late.")],
            1,
            "",
        ),
        (
            {"goal": "Open it:", "sol1": "pull", "sol2": " push", "label": 1},
            [("Open it:", " pull"), ("Open it:", " push")],
            1,
            "",
        ),
        (
            ARC | {"choices": {"text": ["ice", "rain"], "label": ["A", "B"]}},
            [
                ("Question: What falls?\nAnswer:", " ice"),
                ("Question: What falls?\nAnswer:", " rain"),
            ],
            1,
            "",
        ),
        (
            {
                "question": {
                    "stem": "What falls?",
                    "choices": [{"text": "ice", "label": "1"}, {"text": "rain", "label": "2"}],
                },
                "answerKey": "2",
            },
            [
                ("Question: What falls?\nAnswer:", " ice"),
                ("Question: What falls?\nAnswer:", " rain"),
            ],
            1,
            "",
        ),
        (
            {"ctx": "He sat", "endings": ["down.", "up.", "in."], "label": "2"},
            [("He sat", " down."), ("He sat", " up."), ("He sat", " in.")],
            2,
            "",
        ),
        (
            {"question": "1+1?", "choices": ["1", "2"], "answer": 1, "group": "sums"},
            [("Question: 1+1?\nAnswer:", " 1"), ("Question: 1+1?\nAnswer:", " 2")],
            1,
            "sums",
        ),
        (
            {"context": "It is", "options": ["hot", "cold"], "answer": "cold"},
            [("It is", " hot"), ("It is", " cold")],
            1,
            "",
        ),
        (
            {"query": "It is", "choices": ["hot", "cold"], "gold": "a"},
            [("It is", " hot"), ("It is", " cold")],
            0,
            "",
        ),
    ],
)
def test_layouts(row, choices, right, group):
    assert questions.question(row) == Question(tuple(choices), right, group)


@pytest.mark.parametrize(
    "line,words",
    [
        ("[1]", "line 2: is not an object"),
        ("{", "line 2: "),
        ('{"text": "no question"}', "line 2: has the fields text; a question has sentence_good"),
        ('{"question": "a?", "answer": 0}', "line 2: has no 'choices or endings or options'"),
        ('{"ctx": "a", "endings": ["b", "c"], "label": 2}', "its answer is choice 3 of 2"),
        ('{"ctx": "a", "endings": ["b", "c"], "label": "d e"}', "'d e' is none of the choices"),
        ('{"ctx": "a", "endings": ["b"], "label": 0}', "needs two choices"),
        ('{"sentence": "a", "option1": "b", "option2": "c", "answer": "1"}', "has no _"),
    ],
)
def test_what_is_no_question_is_named_with_its_line(tmp_path, line, words):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"sentence_good": "a", "sentence_bad": "b"}) + "\n" + line + "\n")
    with pytest.raises(UserError) as error:
        questions.read(path)
    assert str(path) in str(error.value) and words in str(error.value)


def test_a_file_without_questions_and_none_at_all(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="has no questions"):
        questions.read(tmp_path / "empty.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        questions.read(tmp_path / "none.jsonl")


def test_our_own_pairs_are_many_different_and_the_same_each_time():
    made = minimal_pairs.make()
    assert made == minimal_pairs.make()
    assert len(made) == 12 * 50 and len({question.group for question in made}) == 12
    assert len({question.choices for question in made}) == len(made)
    for question in made:
        (_, good), (_, bad) = question.choices
        assert good != bad and good.endswith(".") and bad.endswith(".")
        words = set(good.rstrip(".").split()) ^ set(bad.rstrip(".").split())
        assert len(words) <= 3, question
    by_group = {question.group: question.choices for question in reversed(made)}
    for (_, good), (_, bad) in by_group.values():
        assert len({good, bad}) == 2
