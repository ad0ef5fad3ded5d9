"""Own vocabularies of specialists: rows at equal FLOPs, tokens, speed."""

import shutil

import pytest
from test_adaptation_benchmark import argv, rows_of  # noqa: F401

from benchmarks import adaptation_domains, adaptation_speed, adaptation_tokens
from specialm.common.errors import UserError

FACTS = {"model": "slm", "seed": 0, "tokens": 1000, "vocabulary_size": 360}


def line(domain, way, tokens, bits, seed=0):
    return {
        **FACTS, "domain": domain, "way": way, "seed": seed, "heldout_tokens": tokens,
        "bits_per_byte": bits, "flops": 2e9, "one_off_flops": 0.0,
    }  # fmt: skip


def test_the_old_vocabulary_of_the_same_seed_is_what_a_way_is_held_against():
    rows = [line("med", "old", 100, 1.5), line("med", "old", 100, 1.7, seed=1)]
    rows += [line("med", "new full", 80, 1.4), line("med", "new full", 80, 1.5, seed=1)]
    lines = adaptation_domains.summary(rows)
    assert "| slm | med | new full | 360 | 20.0% | 1.4500 | -0.1500 ± 0.6353 |" in lines[-1]
    assert "| slm | med | old | 360 | 0.0% | 1.6000 |  | 2e+09 |" in lines[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--models=gpt", "--models=gpt: must be one of slm, open"),
        ("--ways=old full", "--ways=old full: must be one of "),
        ("--share=1", "--share=1: must be between 0 and 1"),
    ],
)
def test_what_there_is_not_is_named(given, message):
    with pytest.raises(UserError, match=message):
        adaptation_domains.parsed([given])


@pytest.fixture
def given(argv, tmp_path):  # noqa: F811
    """Options of a grid of one domain."""
    folder = tmp_path / "corpora" / "domains"
    folder.mkdir(parents=True)
    shutil.copyfile(tmp_path / "linalg.jsonl", folder / "linalg.jsonl")
    kept = [each for each in argv if not each.startswith(("--rules", "--tokens", "--kinds"))]
    return [*kept, "--domains=linalg", "--models=slm", f"--corpora={tmp_path / 'corpora'}"]


def test_tokens_are_counted_both_ways(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(adaptation_tokens.SIZES, "slm", (("new", 0), ("extend", 0)))
    given = [*given, "--set=data.vocabulary_kind=bpe"]
    adaptation_tokens.main(given)
    new, extended = rows_of(tmp_path)
    assert (new["vocabulary"], extended["vocabulary"]) == ("new", "extend")
    assert new["tokens"] < new["old_tokens"]
    for row in (new, extended):
        assert row["vocabulary_size"] == 360 and row["tokens"] <= row["old_tokens"]
        assert row["saved"] == 1 - row["tokens"] / row["old_tokens"]
    assert f"| slm | new, 360 | {new['saved']:+.1%} |" in capsys.readouterr().out


@pytest.mark.slow
def test_all_ways_spend_the_same(given, tmp_path, capsys):
    given = [*given, "--tokens=4000"]
    adaptation_domains.main([*given, "--ways=old"])
    adaptation_domains.main(given)
    rows = {row["way"]: row for row in rows_of(tmp_path)}
    assert tuple(rows) == adaptation_domains.WAYS["slm"]
    for way, row in rows.items():
        assert row["flops"] == pytest.approx(rows["old"]["flops"], rel=0.05)
        assert row["heldout_bytes"] == rows["old"]["heldout_bytes"]
        assert (row["rows_flops"] > 0) == (way not in ("old", "new none"))
        assert (row["one_off_flops"] > 0) == way.startswith("new mini")
        assert 0 < row["bits_per_byte"] < (9 if row["rows_flops"] else row["adapted"])
    capsys.readouterr()
    speeds = [f"--rows={tmp_path / 'rows.jsonl'}", f"--workdir={tmp_path / 'work'}", "--rounds=1"]
    adaptation_speed.main([*speeds, "--length=4", f"--out={tmp_path / 'speed.jsonl'}"])
    assert capsys.readouterr().out.count("times the bytes a second") == len(rows) - 1
