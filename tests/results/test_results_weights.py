"""What results/README.md says of the rules for weights, held against the committed rows."""

import json
from pathlib import Path

import numpy as np

from benchmarks import weighting_rules
from benchmarks.repetition_grid import SEVEN

RESULTS = Path(__file__).parents[2] / "results"
ROWS = [json.loads(s) for s in (RESULTS / "weights" / "rules.jsonl").read_text().splitlines()]
SMALL, LARGE = 4_000_000, 20_000_000


def change(tokens, rule, base=weighting_rules.DEFAULT):
    """Per cent of each domain."""
    bits = {(r["rule"], r["domain"]): r["bits_per_byte"] for r in ROWS if r["tokens"] == tokens}
    return np.array([100 * (bits[rule, d] / bits[base, d] - 1) for d in SEVEN])


def test_the_table():
    table = weighting_rules.table(ROWS)
    assert f"<!-- rules -->\n{table}\n<!-- end of rules -->" in (RESULTS / "README.md").read_text()


def test_what_is_said_of_the_rules():
    none = "ratio, no cap"
    assert [round(change(tokens, none).mean(), 1) for tokens in (SMALL, LARGE)] == [1.1, 2.9]
    assert change(LARGE, none, weighting_rules.UNIFORM).mean() > 0
    others = set(weighting_rules.RULES) - {none, weighting_rules.UNIFORM, "all seven domains alike"}
    for tokens in (SMALL, LARGE):
        assert change(tokens, none).mean() > max(-change(tokens, rule).mean() for rule in others)
        assert change(tokens, "tree, 256 leaves").mean() < -0.3
        likelihood = change(tokens, "tree, depth by likelihood")
        np.testing.assert_array_equal(likelihood, change(tokens, "tree, 256 leaves"))
        alike = change(tokens, "all seven domains alike").mean()
        assert 2.15 < alike < 2.45
    assert round(change(LARGE, "tree, 256 leaves").mean(), 1) == -0.4
    backing = change(LARGE, "tree, backing off") - change(LARGE, "tree, 256 leaves")
    assert round(-backing.mean(), 2) == 0.04
    for rule in ("power 0.5", "smoothing 0.1", "smoothing 0.5", "64 clusters", "power 0.8"):
        assert -0.65 < change(SMALL, rule).mean() < -0.1
        assert change(LARGE, rule).mean() > -0.05
