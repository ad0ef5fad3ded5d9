"""The benchmark of new languages: its text, its sums, and a grid that is tiny but whole."""

import json
import math

import conftest
import numpy as np
import pytest

from benchmarks import (
    adaptation,
    adaptation_figure,
    adaptation_summary,
    adaptation_text,
    adaptation_words,
)
from benchmarks.repetition_figure import write
from specialm.common.errors import UserError

PAGE = """<html><head><title>no</title></head><body><p class="nav">x</p>
<div class="para">The first paragraph, <code>apt</code> in it.</div>
<p>The first paragraph, apt in it.</p><pre>code that is long enough</pre><p>Short.</p></body></html>"""


def test_paragraphs_of_a_page():
    assert adaptation_text.blocks(PAGE) == ["The first paragraph, apt in it."]


def test_what_is_left_in_english_is_dropped():
    long = "ein Absatz, der lang genug ist " * 12
    pages = {
        "en": {"a": ["an English paragraph " * 20, "another"], "b": ["tiny"]},
        "de": {"a": ["another", long], "b": ["another"]},
    }
    made = adaptation_text.documents(pages)
    assert [row["text"] for row in made["de"]] == [long]
    assert made["de"][0] == {"id": "de/a", "group": "a", "text": long}
    assert [row["group"] for row in made["en"]] == ["a"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--languages=de,xx", "--languages=xx: the handbook is translated into de, fr"),
        ("--kinds=mlm", "--kinds=mlm: must be one of decoder, masked"),
        ("--via=mini", "--via=mini: must be one of full"),
        ("--rules=best", "--rules=best: must be one of random"),
    ],
)
def test_what_there_is_not_is_named(argv, message):
    with pytest.raises(UserError, match=message):
        adaptation.parsed([argv])


def test_flops_at_equal_quality():
    curve = [(4.0, 2.0), (1.0, 3.0), (16.0, 2.5)]
    assert adaptation_summary.flops_at(2.5, curve) == pytest.approx(2.0)
    assert adaptation_summary.flops_at(2.0, curve) == pytest.approx(4.0)
    assert adaptation_summary.flops_at(1.9, curve) is None
    assert adaptation_summary.flops_at(3.1, curve) is None


def cell(via, flops, bits, seed=0, language="de"):
    return {
        "kind": "decoder", "seed": seed, "language": language, "via": via, "init": "focus",
        "tokens": int(flops), "flops": flops, "one_off_flops": 500.0 * via.startswith("mini"),
        "seconds": flops**2, "bits_per_byte": bits,
    }  # fmt: skip


def test_a_way_that_takes_half_the_flops_has_the_ratio_two():
    rows = []
    for seed in range(3):
        for flops in (1e3, 2e3, 4e3, 8e3):
            bits = 5 - math.log2(flops) / 4
            rows += [cell("full", flops, bits, seed), cell("mini_joint", flops / 2, bits, seed)]
    found = adaptation_summary.ratios(rows, "mini_joint")
    assert [len(of) for of in found] == [4, 4, 4]
    np.testing.assert_allclose(found, 2.0)
    assert adaptation_summary.interval([2.0, 2.0]) == pytest.approx((2, 2, 2))
    middle, low, high = adaptation_summary.interval([1.0, 4.0])
    assert middle == pytest.approx(2) and low < 1 < 4 < high
    lines = adaptation_summary.summary([*rows, cell("mini_post", 5, 9.0)])
    text = "\n".join(lines)
    assert "decoder: mini_joint takes 1/2.00 of the FLOPs of the whole model" in text
    assert "3 models; 12 of 12 budgets of the whole model are on its curve" in text
    assert "decoder: mini_joint in seconds: 1/4.00 (95%: 4.00 to 4.00, 3 models)" in text
    paid = adaptation_summary.ratios(rows, "mini_joint", once=True)
    np.testing.assert_allclose(paid[0], [1, 4 / 3, 8 / 5, 16 / 9])
    assert lines[-1] == "decoder: the curves of mini_post and of the whole model do not meet"


def test_the_figure_has_a_panel_a_language(tmp_path):
    rows = [
        cell(via, flops, 5 - math.log2(flops) / 4, language=language)
        for language in ("de", "ru")
        for via in ("full", "mini_post", "scratch")
        for flops in (1e11, 1e12)
    ]
    rows += [{**row, "via": "none", "tokens": 0, "flops": 0} for row in rows[:1]]
    chart = adaptation_figure.chart(rows)
    assert [panel.title for panel in chart.panels] == ["German, decoder", "Russian, decoder"]
    assert adaptation_figure.curves(rows)["full"][0] == (1e11, pytest.approx(5 - 9.135, abs=0.01))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(adaptation_figure.chart, tmp_path / "rows.jsonl", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.fixture
def argv(tmp_path, monkeypatch):
    """Options of a grid of one language, seed and budget."""
    conftest.write_docstrings(tmp_path)
    texts = {"en": tmp_path / "generic.jsonl", "de": tmp_path / "linalg.jsonl"}
    monkeypatch.setattr(adaptation_text, "fetch", lambda folder, languages: texts)
    small = "num_layers=2 d_model=16 d_ff=32 num_heads=2".split()
    monkeypatch.setattr(adaptation, "MODEL", tuple(f"model.{each}" for each in small))
    settings = (
        "data.vocabulary_size=360", "data.context=16", "data.generic_heldout_fraction=0.1",
        "data.valid_tokens=300", "data.heldout_tokens=600", "train.tokens=3000",
        "train.batch_size=8", "train.warmup_steps=2", "finetune.batch_size=8",
    )  # fmt: skip
    argv = [f"--out={tmp_path / 'rows.jsonl'}", f"--workdir={tmp_path / 'work'}"]
    argv += [f"--source=jsonl:{texts['en']}", "--languages=de", "--kinds=decoder", "--seeds=0"]
    argv += ["--tokens=1000", "--mini_tokens=1000", "--layer=1", "--rules=fvt"]
    return argv + [f"--set={each}" for each in settings]


def rows_of(tmp_path):
    return [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]


def test_a_killed_grid_goes_on(argv, tmp_path, monkeypatch):
    adaptation.main([*argv, "--via="])
    (row,) = rows_of(tmp_path)
    assert (row["via"], row["init"], row["flops"]) == ("none", "fvt", 0)
    assert 0 < row["bits_per_byte"] < 9 and row["before"] > 0 and row["tokens_saved"] < 1
    monkeypatch.setattr(adaptation, "row", None)  # nothing is left to do
    adaptation.main([*argv, "--via="])
    assert rows_of(tmp_path) == [row]


@pytest.mark.slow
def test_all_ways_in_small(argv, tmp_path, capsys):
    adaptation.main([*argv, "--via=full"])
    adaptation.main([*argv, "--via=full,mini_joint,mini_post,scratch,old"])
    rows = rows_of(tmp_path)
    assert [row["via"] for row in rows] == [
        "none", "full", "mini_joint", "mini_post", "scratch", "old",
    ]  # fmt: skip
    of = {row["via"]: row for row in rows}
    assert of["none"]["flops"] == 0 and of["none"]["init"] == "fvt"
    assert 0 < of["mini_joint"]["flops"] < of["full"]["flops"] < of["scratch"]["flops"]
    assert of["mini_post"]["one_off_flops"] > 0 == of["full"]["one_off_flops"]
    assert all(0 < row["bits_per_byte"] < 9 for row in rows)
    assert of["old"]["tokens"] == 1000
    capsys.readouterr()
    adaptation.main([*argv, "--summary"])
    assert "| `full` | focus | 1,000 |" in capsys.readouterr().out


def test_words_of_a_dictionary():
    text = """house /hˈaʊs/
Haus <neut>, Gebäude <neut> [arch.]
   Synonym: {home}
      "build a house"  - ein Haus bauen

old house /əʊld hˈaʊs/
Altbau
amaze /əmeiz/
1. étonner, frapper de stupeur
2. (fam.) sidérer
"""
    assert list(adaptation_words.pairs(text)) == [
        ("house", "Haus"), ("house", "Gebäude"), ("amaze", "étonner"), ("amaze", "sidérer"),
    ]  # fmt: skip
    with pytest.raises(UserError, match="--languages=zh: no dictionary from English"):
        adaptation_words.package("zh")
