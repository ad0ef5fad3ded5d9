"""What is timed in turn: rounds, counts, and the speeds of byte-pooled models in small."""

import json

import pytest

from benchmarks import tiny_speed, turns


class Clock:
    """Time that passes only while a side works."""

    now = 0.0

    def perf_counter(self):
        return self.now


def test_sides_take_turns_as_often_as_their_seconds_allow(monkeypatch):
    clock, calls = Clock(), []
    monkeypatch.setattr(turns, "time", clock)

    def side(name, seconds):
        def run(count):
            calls.append((name, count))
            clock.now += count * seconds

        return run

    sides = {"quick": side("quick", 0.1), "slow": side("slow", 3.0)}
    found = turns.timed(sides, rounds=2)
    assert {name: pytest.approx(each) for name, each in found.items()} == {
        "quick": [0.1] * 2,
        "slow": [3.0] * 2,
    }
    assert calls[4:] == [("quick", 10), ("slow", 1)] * 2
    calls.clear()
    turns.timed(sides, rounds=1, count=8)
    assert calls == [("quick", 8)] * 2 + [("slow", 8)] * 2 + [("quick", 8), ("slow", 8)]


@pytest.mark.slow
def test_speeds_of_byte_pooled_models_in_small(tmp_path):
    out = tmp_path / "speed.jsonl"
    words = ["--configs=local", "--rounds=1", "--windows=2", "--tokens=2", f"--out={out}"]
    tiny_speed.main(words)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["what"], row["side"]) for row in rows] == [
        (what, side) for what in ("training", "generation") for side in tiny_speed.SIDES
    ]
    for row in rows:
        assert row["bytes_per_second"] > 0
        assert ("share_of_ends" in row) == (row["side"] != "dense" and row["what"] == "training")
    assert rows[0]["against_dense"] == 1
