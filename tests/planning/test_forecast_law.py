"""The law of forecasts against a plain computation, and that fitting finds what made the rows."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.planning import law
from specialm.planning.evidence import Row

TRUE = {
    "E": -0.8, "g": 1.1, "A": -0.4, "a": 1.2, "B": 0.6, "b": 0.3,
    "learned": 0.08, "k": -0.02, "R": math.log(12.0),
    "slm_is": -0.03, "slm_pn": -0.01,
}  # fmt: skip
THETA = np.array([TRUE.get(name, 0.0) for name in law.NAMES])


def row(**values):
    base = {
        "study": "s", "method": "slm", "domain": "d", "seed": 0, "params": 200_000,
        "tokens": 4_000_000, "repetitions": 0.4, "specialist_bytes": 22_000, "own": 2.6,
        "mixed": 2.3, "learned": True, "bits_per_byte": 2.5,
    }  # fmt: skip
    return Row(**(base | values))


def by_hand(one: Row, kind: str) -> float:
    """ln L, in the order of the docstring's formula."""
    worth = one.tokens
    if one.repetitions > 1:
        unique, excess = one.tokens / one.repetitions, math.exp(TRUE["R"])
        worth = unique + unique * excess * (1 - math.exp(-(one.repetitions - 1) / excess))
    floor = math.exp(TRUE["E"]) * getattr(one, kind) ** TRUE["g"]
    short = (one.params / 3e5) ** -TRUE["a"] + math.exp(TRUE["B"]) * 5e6 / worth
    total = math.log(floor + math.exp(TRUE["A"]) * short ** TRUE["b"])
    total += TRUE["learned"] * one.learned + TRUE.get(one.method, 0.0)
    return total + TRUE["k"] * math.log(one.tokens / 5e6) * (one.method == "slm_is")


@pytest.mark.parametrize("kind", ["own", "mixed"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"method": "slm_is", "repetitions": 6.0},
        {"method": "slm_pn", "learned": False, "params": 1_000_000},
        {"method": "llm", "tokens": 800_000, "mixed": 1.9, "own": 1.7},
    ],
)
def test_the_law_is_its_formula(values, kind):
    one = row(**values)
    assert law.Features([one], kind).predicted(THETA)[0] == pytest.approx(by_hand(one, kind))


@given(st.floats(1e5, 1e9), st.floats(0.01, 100), st.floats(1, 50))
def test_repeated_tokens_are_worth_at_most_what_is_read(tokens, repetitions, excess):
    worth = law.unique_worth(np.array([tokens]), np.array([repetitions]), excess)[0]
    more = law.unique_worth(np.array([tokens]), np.array([repetitions * 2]), excess)[0]
    assert tokens / max(repetitions, 1) <= worth * (1 + 1e-9) <= tokens * (1 + 1e-8)
    assert more <= worth * (1 + 1e-9)
    if repetitions <= 1:
        assert worth == tokens


@pytest.fixture(scope="module")
def made():
    """Rows that the law makes, with noise of 0.5%, in 6 cells."""
    generator, rows = np.random.default_rng(0), []
    for study, params in (("s", 60_000), ("t", 300_000), ("u", 1_000_000)):
        for domain, hard in (("d", 2.0), ("e", 2.6)):
            for tokens in (1e6, 4e6, 16e6):
                for method in ("slm", "slm_is", "slm_pn"):
                    again = 5.0 if method == "slm_is" else 0.5
                    for size in (1.0, 0.9):
                        values = {
                            "study": study, "domain": domain, "params": params, "method": method,
                            "tokens": round(tokens), "repetitions": again, "mixed": hard * size,
                        }  # fmt: skip
                        bits = math.exp(by_hand(row(**values), "mixed") + generator.normal() * 5e-3)
                        rows.append(row(**values, bits_per_byte=bits))
    return rows


def test_fitting_finds_the_law_that_made_the_rows(made):
    fitted = law.fit(made, "mixed")
    found = dict(zip(law.NAMES, fitted.theta_l, strict=True))
    assert found["slm_is"] == pytest.approx(TRUE["slm_is"], abs=0.01)
    assert found["slm_pn"] == pytest.approx(TRUE["slm_pn"], abs=0.005)
    assert all(abs(effect) < 0.02 for effect in fitted.cells.values())
    # What matters is what it says in between and a little beyond.
    new = [row(params=500_000, tokens=t, mixed=2.3) for t in (2_000_000, 32_000_000)]
    said = law.log_bits(fitted, new, "mixed")
    assert said == pytest.approx([by_hand(one, "mixed") for one in new], abs=0.01)


def test_one_wild_row_moves_little(made):
    """Huber's loss: squares would move the effect of slm_pn by the mean, 1.4%."""
    i = next(i for i, one in enumerate(made) if one.method == "slm_pn")
    wild = [*made]
    wild[i] = dataclasses.replace(made[i], bits_per_byte=made[i].bits_per_byte * 1.65)
    before, after = (law.fit(rows, "mixed").theta_l for rows in (made, wild))
    place = law.NAMES.index("slm_pn")
    assert abs(after[place] - before[place]) < 0.004


def test_bootstrap_draws_spread_around_the_fit(made):
    draws = law.bootstrap(made, "mixed", 8, 0)
    place = law.NAMES.index("slm_is")
    assert draws.shape == (8, len(law.NAMES))
    assert 0 < draws[:, place].std() < 0.02
    assert abs(draws[:, place].mean() - TRUE["slm_is"]) < 0.02
    assert np.array_equal(draws, law.bootstrap(made, "mixed", 8, 0))


def test_a_domain_that_is_off_shows_in_the_spread(made):
    """One of two domains is 8% worse than its n-gram figure says, in all studies."""
    off = [
        dataclasses.replace(r, bits_per_byte=r.bits_per_byte * 1.08) if r.domain == "e" else r
        for r in made
    ]
    before, after = (law.spreads(rows, "mixed")["domain"] for rows in (made, off))
    assert before < 0.03 and after > before + 0.02
    assert law.spreads(made, "mixed")["method"] == pytest.approx(0.005, rel=0.4)
