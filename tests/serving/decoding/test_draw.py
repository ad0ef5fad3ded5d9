"""Choices of tokens against sorted probabilities in NumPy float64."""

import dataclasses

import jax
import numpy as np
import pytest
from decoding_reference import choose
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.serving.decoding.draw import Choices, Kind, draw
from specialm.serving.decoding.engine import _choices
from specialm.serving.decoding.sampling import Sampling, of

DRAW = jax.jit(draw, static_argnums=3)
ALL = Kind(draws=True, filters=True, penalised=True, top=5)
ROWS, SIZE = 6, 300


class Row:
    def __init__(self, sampling, drawn=0):
        self.sampling, self.drawn = sampling, drawn


@st.composite
def samplings(draw_):
    return Sampling(
        temperature=draw_(st.sampled_from([0.0, 0.3, 1.0, 2.5])),
        top_k=draw_(st.sampled_from([0, 1, 7, 40, 1000])),
        top_p=draw_(st.sampled_from([0.1, 0.75, 0.97, 1.0])),
        min_p=draw_(st.sampled_from([0.0, 0.02, 0.5])),
        repetition_penalty=draw_(st.sampled_from([0.7, 1.0, 1.6])),
        seed=draw_(st.integers(0, 2**32 - 1)),
    )


@given(rows=st.lists(samplings(), min_size=ROWS, max_size=ROWS), case=st.integers(0, 999))
@settings(max_examples=40)
def test_every_row_is_drawn_by_its_own_choices(rows, case):
    rng = np.random.default_rng(case)
    logits = (3 * rng.normal(size=(ROWS, SIZE))).astype(np.float32)
    seen = rng.random((ROWS, SIZE)) < 0.3
    given_rows = [Row(sampling, int(rng.integers(99))) for sampling in rows]
    drawn = DRAW(logits, _choices(given_rows), seen, ALL)
    for n, row in enumerate(given_rows):
        wanted = choose(logits[n], np.flatnonzero(seen[n]), row.sampling, row.drawn)
        assert int(drawn.token_B[n]) == wanted
        log_p = logits[n].astype(np.float64) - np.log(np.exp(logits[n].astype(np.float64)).sum())
        np.testing.assert_allclose(drawn.logp_B[n], log_p[wanted], atol=1e-5)
        np.testing.assert_array_equal(drawn.top_token_Bxa[n], np.argsort(-logits[n])[:5])


def test_frequencies_are_the_probabilities():
    logits = np.log(np.array([[0.5, 0.25, 0.125, 0.125, 0.0]], np.float32) + 1e-30)
    count = 4000
    choices = _choices([Row(Sampling(temperature=1.0, seed=n)) for n in range(count)])
    tokens = DRAW(np.repeat(logits, count, 0), choices, None, Kind(draws=True)).token_B
    found = np.bincount(tokens, minlength=5) / count
    np.testing.assert_allclose(found, [0.5, 0.25, 0.125, 0.125, 0], atol=0.03)
    assert found[4] == 0


@pytest.mark.parametrize(
    ("logits", "penalty", "wanted"),
    [
        ([-1.0, -1.2, -9.0], 1.5, 1),  # -1.5 for the token that was there
        ([-1.2, -1.3, -9.0], 0.9, 0),  # -1.08
        ([1.2, 1.0, -9.0], 1.5, 1),  # 0.8
        ([1.2, 1.0, -9.0], 1.1, 0),  # 1.09
    ],
)
def test_a_penalty_makes_a_token_less_likely_on_both_sides_of_0(logits, penalty, wanted):
    seen = np.array([[True, False, False]])
    choices = _choices([Row(Sampling(temperature=0.0, repetition_penalty=penalty))])
    drawn = DRAW(np.array([logits], np.float32), choices, seen, Kind(penalised=True))
    assert drawn.token_B.tolist() == [wanted]


def test_equal_tokens_are_kept_together():
    logits = np.array([[2.0, 2.0, 2.0, 0.0]], np.float32).repeat(200, 0)
    choices = _choices([Row(Sampling(temperature=1.0, top_k=2, seed=n)) for n in range(200)])
    assert set(
        DRAW(logits, choices, None, Kind(draws=True, filters=True, top=5)).token_B.tolist()
    ) == {0, 1, 2}


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"temperature": -1}, "generate.temperature=-1: must be between 0 and 100"),
        ({"temperature": float("nan")}, "generate.temperature=nan: must be between"),
        ({"top_k": -1}, "generate.top_k=-1: must be at least 0"),
        ({"top_p": 0.0}, "generate.top_p=0.0: must be above 0 and at most 1"),
        ({"min_p": 1.5}, "generate.min_p=1.5: must be between 0 and 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty=0.0: must be between 0.01 and 100"),
        ({"stop": ("",)}, "generate.stop=.*1 to 1024 bytes"),
        ({"stop": ["x"] * 17}, "generate.stop=.*at most 16 texts"),
        ({"seed": 1 << 32}, "generate.seed=4294967296"),
        ({"top_logprobs": 21}, "generate.top_logprobs=21: must be between 0 and 20"),
        ({"temprature": 1}, "Did you mean 'temperature'"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        of(**wrong)


def test_one_stop_text_is_a_list_of_one():
    assert of(stop="a").stop == ("a",) and of(stop=["a", "b"]).stop == ("a", "b")
    assert dataclasses.asdict(of())["tokens"] == 64
    assert Choices._fields[0] == "temperature_B"
