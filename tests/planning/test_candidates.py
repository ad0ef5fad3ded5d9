"""What a budget buys, against sums by hand, and what is said of settings without rows."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.evaluation import cost
from specialm.planning import candidates, evidence
from specialm.planning.candidates import Asked

ASKED = Asked(
    params=174_000,
    domains=1,
    budget=5e12,
    generic_tokens=1e7,
    specialist_bytes=66_000,
    own=2.5,
    mixed=2.2,
)
COSTS = evidence.table()["costs"]


def of(method, **changes):
    return candidates.of(method, dataclasses.replace(ASKED, **changes))


def test_the_small_models_tokens_by_hand():
    finetuning = 6 * 174_000 * COSTS["passes"] * 66_000 / 2.2
    one, ten = of("slm"), of("slm", domains=10, budget=5e13)
    assert one.tokens == pytest.approx((5e12 - finetuning) / (6 * 174_000))
    assert ten.tokens == pytest.approx((5e13 - 10 * finetuning) / (6 * 174_000))
    assert one.special.flops == pytest.approx(finetuning)
    assert one.repetitions == pytest.approx(one.tokens / 1e7)


def test_importance_sampling_pays_for_each_domain():
    once, each = of("slm", domains=4, budget=2e13), of("slm_is", domains=4, budget=2e13)
    assert each.generic.flops == 0
    assert each.tokens == pytest.approx(once.tokens / 4)
    assert each.repetitions == pytest.approx(each.tokens / 1e7 / COSTS["effective_fraction"])
    assert of("slm_is", generic_tokens=1e6).repetitions == candidates.MAX_REPETITIONS


def test_a_large_model_reads_less_and_is_not_served():
    small, large = of("slm", budget=4e13), of("llm", budget=4e13)
    assert large.params == pytest.approx(174_000 * COSTS["large"])
    assert large.tokens < small.tokens / 4 and not large.served
    assert of("slm_d", budget=4e13).served


@settings(deadline=None)
@given(
    st.sampled_from([o.method for o in candidates.OFFERS.values() if not o.open]),
    st.floats(1e12, 1e15),
    st.integers(1, 30),
    st.floats(5e4, 2e6),
)
def test_every_method_spends_the_budget(method, budget, domains, params):
    one = of(method, budget=budget, domains=domains, params=params)
    if one.tokens:
        spent = cost.total(*one.costs, domains).flops
        assert spent == pytest.approx(budget, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "method", "said"),
    [
        ({"params": 126e6, "budget": 1e18}, "slm", "inference_params 126M (rows: 62.3k to 1.09M)"),
        ({"budget": 1e16}, "slm", "pretraining tokens"),
        ({"budget": 1e11}, "slm", "fine-tuning alone takes 8"),
        ({"mixed": 5.0}, "slm", "bits per byte of the n-gram model 5"),
        ({"specialist_bytes": 9e6, "budget": 1e15}, "slm", "bytes of specialist text 9M"),
        ({"generic_tokens": 1e4}, "slm", "repetitions of the text"),
    ],
)
def test_what_no_row_supports_is_not_known(changes, method, said):
    assert any(said in text for text in of(method, **changes).unknown)


def test_a_little_beyond_is_told_and_less_than_the_rows_repeat_is_not():
    near = of("slm", params=2e6, budget=5e13)
    assert not near.unknown and "inference_params 2M" in near.beyond[0]
    assert of("slm", generic_tokens=1e9).beyond == ()


def test_methods_without_rows(monkeypatch):
    kept = [row for row in evidence.rows() if row.method != "soup"]
    monkeypatch.setattr(evidence, "rows", lambda: kept)
    assert of("soup").unknown == ("no committed rows of soup",)
    assert of("slm_pn").studies == 2
