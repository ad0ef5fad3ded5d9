"""The benchmark of rules for importance weights."""

import types

import numpy as np
import pytest
from scipy import stats

from benchmarks import repetition, weighting_rules
from benchmarks.repetition_grid import SEVEN, Cell


@pytest.mark.parametrize("rule", weighting_rules.RULES)
def test_every_rule_is_a_config_of_its_own(rule):
    def config(name):
        options = types.SimpleNamespace(set=list(weighting_rules.RULES[name]))
        cell = Cell("seven", "1M", 4_000_000, "cap8", 1e-3, "", 0)
        return repetition.config_of(cell, options).to_json()

    assert set(SEVEN) <= set(repetition.SEVEN)
    same = {other for other in weighting_rules.RULES if config(other) == config(rule)}
    both = {weighting_rules.UNIFORM, weighting_rules.DEFAULT}  # one of them draws without weights
    assert same == (both if rule in both else {rule})


def test_the_table_is_of_changes_over_the_domains():
    gains = np.linspace(0.01, 0.07, len(SEVEN))
    rows = []
    for domain, gain in zip(SEVEN, gains, strict=True):
        for rule, bits in (
            (weighting_rules.UNIFORM, 2.0),
            (weighting_rules.DEFAULT, 2.0 * (1 - gain)),
        ):
            rows.append({"tokens": 4_000_000, "rule": rule, "domain": domain})
            rows[-1]["bits_per_byte"] = bits
    lines = weighting_rules.table(rows).splitlines()
    assert lines[0] == "| | 4M: against uniform | default |"
    half = stats.t.ppf(0.975, 6) * 100 * gains.std(ddof=1) / np.sqrt(7)
    (line,) = [line for line in lines if line.startswith(f"| {weighting_rules.DEFAULT} |")]
    assert line == f"| {weighting_rules.DEFAULT} | -4.00 ± {half:.2f} |  |"
