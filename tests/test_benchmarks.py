"""The benchmarks find what they time."""

import dataclasses
import importlib
import json
import types

import numpy as np
import pytest

from benchmarks import (
    cells,
    device,
    finetune,
    golf,
    golf_entries,
    golf_table,
    overlap,
    planted_bugs,
    processor_time,
    proxy,
    repetition,
    repetition_grid,
    tiny,
)
from specialm.common.errors import UserError


@pytest.mark.parametrize("place", finetune.PARTS)
def test_every_timed_function_exists(place):
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    for name in path.split("."):
        owner = getattr(owner, name)
    assert callable(owner)


OPTIONS = types.SimpleNamespace(set=["data.specialist_tokens=70"])


@pytest.mark.parametrize("block", repetition_grid.GRID)
def test_every_cell_of_the_repetition_benchmark_has_a_config(block):
    first = dataclasses.replace(block, seeds=block.seeds[:1])
    planned = list(first.cells([]))
    assert len(planned) == len(set(planned)) == first.count()
    settings = [repetition.config_of(cell, OPTIONS) for cell in planned]
    assert {config.data.specialist_tokens for config in settings} == {70}
    assert {config.train.learning_rate for config in settings} == set(block.rates)
    different = len(block.methods) * len(block.rates)  # domains share one
    assert len({config.to_json() for config in settings}) == different


def grid_row(cell, **values):
    return dataclasses.asdict(cell) | {"valid_after": 1.0} | values


def test_a_methods_other_seeds_have_its_best_rate():
    block = repetition_grid.Block("default", "1M", 1000, ("slm", "cap8"), (1e-3, 2e-3), (0, 1))
    rows, seen = [], []
    for cell in block.cells(rows):  # asks for the next one when a row is there, as main does
        seen.append(cell)
        better = {"slm": 2e-3, "cap8": 1e-3}[cell.method] == cell.learning_rate
        other = cell.domain == "med"  # one domain says otherwise
        rows.append(grid_row(cell, valid_after=1.0 if better != other else 2.0))
    assert len(seen) == block.count() == 18
    last = {(cell.method, cell.learning_rate) for cell in seen if cell.seed == 1}
    assert last == {("slm", 2e-3), ("cap8", 1e-3)}
    kept = repetition_grid.at_best_rates(rows)
    assert {(row["method"], row["learning_rate"]) for row in kept} == last and len(kept) == 12
    assert repetition_grid.work_left([block], rows) == 0
    assert repetition_grid.work_left([block], rows[:17]) == repetition_grid.work_of(seen[-1])
    # A rate whose domains are not all there is not chosen.
    assert repetition_grid.best_rates(rows[:4])[("default", "1M", 1000, "slm")] == 1e-3


def test_the_repetition_benchmark_goes_on_after_whole_lines(tmp_path):
    cell = next(repetition_grid.GRID[0].cells([]))
    line = grid_row(cell)
    (tmp_path / "rows").write_text(json.dumps(line) + '\n{"size": "0.2')
    rows = cells.read(tmp_path / "rows")
    assert rows == [line] and (tmp_path / "rows").read_text() == json.dumps(line) + "\n"
    assert repetition_grid.find(cell, rows) == line
    assert repetition_grid.find(dataclasses.replace(cell, seed=1), rows) is None
    assert cells.read(tmp_path / "none") == []


def test_the_summary_counts_a_cell_once():
    cell = next(repetition_grid.GRID[0].cells([]))
    line = grid_row(cell, valid_after=1.5, expected_repetitions=2.0, max_repetitions=8.0)
    other = line | {"domain": "books", "valid_after": 2.5}
    (said,) = repetition.summary([line | {"valid_after": 9.0}, line, other])
    assert "2.0000 (2), repetitions 2.0, most 8.0" in said


def test_what_is_lost_by_the_choice_of_the_proxy():
    lines = [
        {
            "corpus": "c",
            "size": "1M",
            "tokens": 9,
            "method": m,
            "domain": "d",
            "proxy": p,
            "trained": t,
        }
        for m, p, t in (("a", 1.0, 2.2), ("b", 1.1, 2.0), ("c", 1.2, 2.1))
    ]
    (said,) = proxy.summary(lines)
    assert "rank correlation -0.50" in said and "choice 10.00%, at most 10.00%" in said


def test_overlap_is_the_share_of_the_distinct_runs_of_a_domain(tmp_path):
    files = {
        "domains/law.jsonl": ["one two three four", "one two three nine"],
        "generic/web.jsonl": ["Two, three four!", "five six seven"],
        "generic_wide/docs.jsonl": ["two three nine"],
    }
    for name, texts in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(f"{json.dumps({'text': t})}\n" for t in texts))
    # Runs of three words of `law`: 123, 234, 239.
    assert overlap.overlap(tmp_path, 3) == {"law": 1 / 3}
    assert overlap.overlap(tmp_path, 3, ("generic", "generic_wide")) == {"law": 2 / 3}
    by_source = overlap.overlap(tmp_path, 3, ("generic", "generic_wide"), by_source=True)
    assert by_source == {"law": {"web": 1 / 3, "docs": 1 / 3}}


def test_every_planted_bug_can_be_planted():
    """An entry whose text has changed is to be brought up to date or removed."""
    bugs = planted_bugs.read()
    assert planted_bugs.problems(bugs) == []
    assert len(bugs) >= 100 and len({bug.room for bug in bugs}) >= 12


def test_an_entry_that_no_longer_applies_is_named():
    gone = planted_bugs.Bug("gone", "specialm/cli.py", "no such text", "other", ("tests/none.py",))
    twice = planted_bugs.Bug("same", "specialm/cli.py", "import", "import os", ())
    found = planted_bugs.problems([gone, twice, gone])
    assert "gone is there twice" in found and "gone: no tests/none.py" in found
    assert any("gone: specialm/cli.py has its `old` 0 times" in each for each in found)
    assert any("same: specialm/cli.py has its `old`" in each for each in found)


def test_rows_of_planted_bugs_count_by_room(tmp_path):
    """A row of an earlier form of a bug does not count, nor does a line that was cut off."""
    bugs = [
        planted_bugs.Bug(name, f"specialm/{room}/x.py", name, "b", (), why)
        for name, room, why in (("1", "data", ""), ("2", "data", ""), ("3", "models", "same"))
    ]
    rows = [{"id": "1", "key": bugs[0].key("t"), "failed": "t"}]
    rows += [{"id": "2", "key": "of an earlier form", "failed": "t"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"id": "1", "key": "cut')
    done = planted_bugs.judged(bugs, planted_bugs.rows(path))
    assert planted_bugs.by_room(bugs, done) == {"data": (1, 1, 2), "models": (0, 0, 0)}
    lines = planted_bugs.summary(bugs, done)
    assert "| all | 1 | 1 | 2 |" in lines and "- `3` (specialm/models/x.py): same" in lines
    assert planted_bugs.rows(tmp_path / "none") == {}


def test_a_row_counts_as_long_as_the_test_that_noticed_it_is_the_same(monkeypatch):
    texts = {"a.py": "def test_1():\n    assert 1\n\n\ndef test_2():\n    assert 2\n"}
    bug = planted_bugs.Bug("b", "specialm/x.py", "old", "new", ("a.py",))

    def keys():
        planted_bugs._tests.cache_clear()
        return bug.key("a.py::test_1[x]"), bug.key("")

    monkeypatch.setattr(planted_bugs, "_text", texts.__getitem__)
    before = keys()
    texts["a.py"] += "\n\ndef test_3():\n    assert 3\n"
    assert keys()[0] == before[0] and keys()[1] != before[1]
    texts["a.py"] = texts["a.py"].replace("assert 1", "assert 0")
    assert keys()[0] != before[0]
    planted_bugs._tests.cache_clear()


def test_tests_that_share_words_with_a_bug_are_tried_first():
    bug = next(
        bug for bug in planted_bugs.read() if bug.id == "a cluster's second turn as its first"
    )
    assert "tests/data/test_sampler.py::test_a_cluster_that_comes_again_is_grouped_anew" in (
        planted_bugs.likely(bug)
    )


@pytest.mark.parametrize("name", golf.ENTRIES)
def test_an_entry_of_golf_is_as_wide_as_bytes_and_time_allow(name):
    entry = golf.ENTRIES[name]
    for args in (golf.parsed(["--bytes=150000"]), golf.parsed(["--bytes=4000000"])):
        width = golf.widest(entry, args, 20_000)
        sizes = [golf_entries.num_params(entry, args, width + more) for more in (0, golf.WIDER)]
        fits = [golf_entries.stored_bytes(n, entry.bits) + 20_000 <= args.bytes for n, _ in sizes]
        most = golf_entries.most_params(entry, args.minutes)
        worth = [n - in_table <= most for n, in_table in sizes]
        assert fits[0] and worth[0] and not (fits[1] and worth[1])
    with pytest.raises(UserError, match="no width of this entry fits"):
        golf.widest(entry, golf.parsed(["--bytes=2000"]), 0)


@pytest.mark.slow
def test_the_benchmark_of_a_device_in_small(tmp_path):
    out = tmp_path / "rows.jsonl"
    words = ["--small", "--windows=8", "--rounds=1", "--seconds=0.1", f"--out={out}"]
    device.main(words)
    slm, bank = (json.loads(line) for line in out.read_text().splitlines())
    assert (slm["method"], bank["method"]) == ("slm", "slm_pn") and slm["against_slm"] == 1
    for row in (slm, bank):
        assert row["tokens_per_second"] == pytest.approx(8 * 64 / row["step_ms"] * 1e3, rel=0.01)
        assert 0 < row["mfu"] < 1
    assert bank["params"] > slm["params"]


def test_windows_that_ngrams_do_not_have_lie_together():
    out = golf.left_out(4000)
    assert 0.008 < out.mean() < 0.015
    starts = np.flatnonzero(np.diff(np.pad(out.astype(int), 1)) == 1)
    ends = np.flatnonzero(np.diff(np.pad(out.astype(int), 1)) == -1)
    assert set(ends - starts) == {16}


def test_minutes_of_an_earlier_part_stay(tmp_path):
    file = tmp_path / "minutes.json"
    with processor_time.measured(file):
        sum(range(200_000))
    first = processor_time.read(file)
    assert first > 0
    with processor_time.measured(file):
        pass
    assert processor_time.read(file) == first


def test_the_best_rate_is_looked_for_beyond_the_ends():
    def loss_around(best):
        return lambda rate: abs(np.log(rate / best))

    for best in (1e-3, 4e-3, 8e-3, 64e-3):
        assert tiny.best_rate(loss_around(best)) == pytest.approx(best)


def test_golfs_compressor_has_as_much_text_as_its_bytes_hold():
    words = np.random.default_rng(0).integers(0, 500, 20_000)
    text = " ".join(f"word{number}" for number in words).encode()
    before = golf._prefix(text, 5000)
    assert 4500 < golf.compressor.compressed_bytes(before) <= 5000 and text.startswith(before)
    assert golf._prefix(text[:100], 5000) == text[:100]


def test_golfs_table_says_what_is_out_of_bounds():
    row = {"entry": "one", "bits_per_byte": 2.0, "artifact_bytes": 1, "fits": True}
    rows = [
        row | {"in_time": True},
        row | {"entry": "late", "bits_per_byte": 1.0, "in_time": False},
    ]
    lines = golf_table.table(rows).splitlines()
    assert lines[2].startswith("| late (out of bounds) | 1.0000") and "| one | 2.0000" in lines[3]
