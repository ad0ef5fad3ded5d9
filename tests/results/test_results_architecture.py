"""What results/README.md says of the parts of small models, held against the committed rows."""

import json
from pathlib import Path

import numpy as np
import pytest

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "results" / "architecture" / "rows.jsonl")
    .read_text()
    .splitlines()
]


def scores(name):
    """Macro bits per byte of the seeds, at the rate that is best for the first one."""
    first = {
        row["learning_rate"]: row["macro_bits_per_byte"]
        for row in ROWS
        if row["architecture"] == name and row["seed"] == 0
    }
    best = min(first, key=first.get)
    found = [
        row["macro_bits_per_byte"]
        for row in ROWS
        if (row["architecture"], row["learning_rate"]) == (name, best)
    ]
    assert len(first) == len(found) == 3
    return best, np.array(found)


@pytest.mark.parametrize(
    "name,rate,mean,deviation",
    [
        ("gpt2", 8e-3, 2.934, 0.086),
        ("gpt2, rope", 8e-3, 2.656, 0.004),
        ("gpt2, rmsnorm, no biases", 8e-3, 2.882, 0.008),
        ("gpt2, swiglu", 4e-3, 2.878, 0.009),
        ("llama", 4e-3, 2.701, 0.003),
        ("llama, qk-norm", 4e-3, 2.706, 0.015),
        ("llama, 2 of 4 kv heads", 4e-3, 2.693, 0.010),
    ],
)
def test_the_table(name, rate, mean, deviation):
    best, found = scores(name)
    assert best == rate
    assert (found.mean(), found.std(ddof=1)) == pytest.approx((mean, deviation), abs=6e-4)


def test_rotary_positions_are_what_helps():
    rope = scores("gpt2, rope")[1]
    for name in ("gpt2", "gpt2, rmsnorm, no biases", "gpt2, swiglu"):
        assert scores(name)[1].min() - rope.max() > 0.2
    plain = scores("gpt2")[1].min()
    for name in ("gpt2, rmsnorm, no biases", "gpt2, swiglu"):
        assert abs(scores(name)[1].min() - plain) < 0.02
    assert all(scores(name)[1].min() > rope.max() for name in ("llama", "llama, qk-norm"))


def test_all_have_the_same_parameters_and_the_same_time():
    for row in ROWS:
        assert row["params"] == pytest.approx(173_824, rel=0.01)
        assert row["tokens"] * row["step_ms"] == pytest.approx(4e6 * 76.99, rel=1e-3)


def test_the_local_config_is_the_best():
    from specialm import config

    local = config.load(str(Path(__file__).parents[2] / "configs" / "local" / "slm.py"))
    (row,) = [row for row in ROWS if row["macro_bits_per_byte"] == scores("gpt2, rope")[1][0]]
    assert local.model.positions == "rope" and local.model.norm == "layernorm"
    assert (local.model.d_ff, local.train.learning_rate) == (row["d_ff"], row["learning_rate"])
