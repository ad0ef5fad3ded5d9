"""The benchmark of tasks in other languages: its examples, its table, and a tiny grid."""

import json

import pytest
from test_adaptation_benchmark import argv as argv
from test_adaptation_benchmark import rows_of

from benchmarks import adaptation_tasks, adaptation_topics
from specialm.common.errors import UserError


def test_chapters_by_the_page_above():
    ups = {"apt": "index", "sect.get": "apt", "sect.cache": "apt", "sect.front": "apt"}
    ups |= {"index": "index", "preface": "index"}
    found = adaptation_topics.chapters(ups)
    assert found == dict.fromkeys(("apt", "sect.get", "sect.cache", "sect.front"), "apt")


def test_passages_without_headings():
    long = "words that make a paragraph, " * 8 + "and end"
    texts = ["6.2. The tools", long, "Kapitel 6. Wartung", long, long]
    (found,) = adaptation_topics.passages(texts)
    assert found == f"{long}\n{long}"


def pages_of(count):
    """Pages whose passages say where they are from."""
    return {
        f"page{i}": [f"page{i} passage{j} " + "word " * 60 for j in range(3)] for i in range(count)
    }


def test_topics_and_pairs():
    pages = pages_of(12)
    chapter_of = {page: f"chapter{int(page[4:]) % 2}" for page in pages if page != "page0"}
    rows = list(adaptation_topics.topic(pages, chapter_of))
    assert len(rows) == 33
    for row in rows:
        page = row["text"].split()[0]
        assert page != "page0" and row["label"] == chapter_of[page]
    pairs = list(adaptation_topics.following(pages, chapter_of))
    labels = [row["label"] for row in pairs]
    assert labels.count("next") == labels.count("other") == 22
    for row in pairs:
        (page, place), (other, other_place) = (row[f"text_{of}"].split()[:2] for of in "ab")
        assert (other == page) == (row["label"] == "next")
        if row["label"] == "next":
            assert int(other_place[-1]) == int(place[-1]) + 1


def test_the_second_half_of_a_page_that_is_held_out_is_the_test():
    pages = pages_of(12)
    learnt, test = adaptation_topics.divided(pages)
    assert set(learnt) == set(pages) and 0 < len(test) < 12
    for page, paragraphs in pages.items():
        assert adaptation_topics.is_held_out(page) == (page in test)
        assert learnt[page] == (paragraphs[:1] if page in test else paragraphs)
        assert learnt[page] + test.get(page, []) == paragraphs


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--tasks=nli", "--tasks=nli: must be some of topic, next"),
        ("--via=old", "--via=old: must be one of full, mini_joint, mini_post, none"),
        ("--tokens=0", "--tokens=0: must be at least 1"),
        ("--steps=0", "--steps=0: must be at least 1"),
        ("--languages=xx", "--languages=xx: the handbook is translated into"),
    ],
)
def test_what_there_is_not_is_named(given, message):
    with pytest.raises(UserError, match=message):
        adaptation_tasks.parsed([given])


@pytest.mark.slow
def test_a_killed_grid_of_tasks_goes_on(argv, tmp_path, monkeypatch, capsys, write_jsonl):
    """Every way in one language; the second call has nothing left to do."""
    texts = [line["text"] for line in map(json.loads, (tmp_path / "linalg.jsonl").open())]
    rows = [{"text": text[:60], "label": f"{len(text) % 2}"} for text in texts]
    files = {name: write_jsonl(tmp_path / f"{name}.jsonl", rows) for name in ("train", "en", "de")}
    monkeypatch.setattr(adaptation_topics, "write", lambda folder, task, languages: files)
    given = [each for each in argv if not each.startswith(("--rules", "--tokens"))]
    given += ["--tokens=1000", "--tasks=topic", "--steps=4"]
    adaptation_tasks.main([*given, "--via=none"])
    adaptation_tasks.main([*given, "--via=none,mini_joint"])
    found = rows_of(tmp_path)
    assert [(row["via"], row["tokens"]) for row in found] == [("none", 0), ("mini_joint", 1000)]
    for row in found:
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["old_accuracy"] <= 1 and row["labels"] == 2
        assert row["task_flops"] > 0 and row["examples"] == len(rows) and row["cut"] > 0
    assert found[0]["flops"] == 0 < found[1]["flops"]
    monkeypatch.setattr(adaptation_tasks, "row", None)
    adaptation_tasks.main([*given, "--via=none,mini_joint"])
    assert rows_of(tmp_path) == found
    assert "| topic | decoder | de | mini_joint | 1,000 |" in capsys.readouterr().out
