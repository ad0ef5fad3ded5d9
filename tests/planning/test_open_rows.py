"""Plans with rows of open checkpoints: ratios, costs and choices against sums by hand."""

import dataclasses
import json

import numpy as np
import pytest
from planning.test_candidates import ASKED
from planning.test_recommendations import TEXT

from benchmarks import forecast_table
from specialm.planning import candidates, describe, evidence, open_rows, recommendations

TABLE = evidence.table()
BITS = {"med": 0.9, "books": 1.1, "ency": 1.0}  # of the model; those of n-grams are 2
LARGE = dataclasses.replace(ASKED, params=135e6, budget=1e15)


def row(domain, bits, method="open_ft", tokens=0, flops=1e14, **more):
    made = {
        "method": method, "domain": domain, "seed": 0, "tokens": tokens, "params": 134_500_000,
        "served_bytes": 540_000_000, "train_flops": flops, "seconds": 60.0, "bits_per_byte": bits,
        "specialist_bytes": 200_000, "own": 2.0, "mixed": 2.0,
    }  # fmt: skip
    return made | more


def with_rows(monkeypatch, *rows):
    monkeypatch.setattr(evidence, "table", lambda: TABLE | {"open": rows})


@pytest.fixture
def fine_tuned(monkeypatch):
    with_rows(monkeypatch, *(row(domain, bits) for domain, bits in BITS.items()))


def test_without_rows_it_is_not_known(monkeypatch):
    with_rows(monkeypatch)
    assert candidates.of("open_ft", LARGE).unknown == ("no committed rows of open_ft",)
    with_rows(monkeypatch, row("med", 1.0), row("med", 1.1, seed=1))
    assert candidates.of("open_ft", LARGE).unknown == ("no committed rows of open_ft",)


def test_the_ratio_is_the_mean_over_domains_not_rows(monkeypatch):
    rows = [row("med", 1.0), row("med", 1.0, seed=1), row("books", 2.0)]
    with_rows(monkeypatch, *rows)
    (one,) = open_rows.measured("open_ft", "mixed")
    assert one.domains == 2
    assert one.log_ratio == pytest.approx(np.log([0.5, 1.0]).mean())
    assert one.deviation == pytest.approx(np.log([0.5, 1.0]).std(ddof=1))


def test_a_forecast_is_the_domains_ngram_bits_times_the_ratio(fine_tuned):
    plan = recommendations.plan(LARGE)
    (first,) = [f for f in plan.forecasts if f.candidate.method == "open_ft"]
    ratio = np.exp(np.log([each / 2 for each in BITS.values()]).mean())
    assert first.bits_per_byte == pytest.approx(ASKED.mixed * ratio, rel=0.01)
    # Student's t of two degrees of freedom: 80% lie within 1.886 deviations of a new value.
    wide = np.log([each / 2 for each in BITS.values()]).std(ddof=1) * (4 / 3) ** 0.5 * 1.886
    low, high = first.intervals[80]
    assert np.log(high / low) == pytest.approx(2 * wide, rel=0.08)
    assert plan.recommended == "open_ft" and first.candidate.served


def test_it_is_paid_for_each_domain_and_too_large_for_a_small_size(fine_tuned):
    one = candidates.of("open_ft", LARGE)
    assert (one.generic.flops, one.special.flops) == (0, 1e14)
    assert one.special.device_seconds == 60
    small = recommendations.plan(dataclasses.replace(ASKED, budget=2e14, params=300_000))
    (open_ft,) = [f for f in small.forecasts if f.candidate.method == "open_ft"]
    assert open_ft.bits_per_byte and not open_ft.candidate.served and open_ft.best == 0
    assert small.recommended != "open_ft"
    many = candidates.of("open_ft", dataclasses.replace(LARGE, domains=20))
    assert many.unknown[0] == "it takes 2e+15 FLOPs"


def test_the_best_number_of_tokens_within_the_budget_is_taken(monkeypatch):
    found = {0: (1.0, 1e14), 200_000: (0.9, 3e14), 500_000: (0.8, 2e15)}
    with_rows(
        monkeypatch,
        *(
            row(domain, bits, tokens=tokens, flops=flops, method="open_is")
            for domain in BITS
            for tokens, (bits, flops) in found.items()
        ),
    )
    assert candidates.of("open_is", LARGE).tokens == 200_000
    assert candidates.of("open_is", dataclasses.replace(LARGE, budget=3e15)).tokens == 500_000
    dear = candidates.of("open_is", dataclasses.replace(LARGE, budget=1e13))
    assert dear.tokens == 0 and dear.unknown[0] == "it takes 1e+14 FLOPs"


def test_text_far_from_the_rows_is_not_known(fine_tuned):
    little = dataclasses.replace(LARGE, specialist_bytes=10_000)
    (said,) = candidates.of("open_ft", little).unknown
    assert said == "bytes of specialist text 10k (rows: 200k to 200k)"
    near = candidates.of("open_ft", LARGE)
    assert any("bytes of specialist text 66k" in text for text in near.beyond)


def test_a_plan_says_who_paid_and_what_is_paid(fine_tuned):
    text = describe.table(recommendations.plan(LARGE), TEXT)
    assert "Recommended: open, fine-tuned" in text
    assert "C(N)" in text and "open, LoRA" in text
    assert "no committed rows of open_lora" in text


def test_the_table_takes_the_rate_that_validation_text_chose(monkeypatch, tmp_path):
    """Baselines have no rate, a rate that lost is left out, held-out text decides nothing."""
    base = {"corpus": "default", "size": "smollm2-135m", "tokens": 0, "seed": 0, "params": 7}
    base |= {"served_bytes": 28, "train_flops": 1e12, "seconds": 3.14159}
    lines = [{**base, "method": "ngram", "learning_rate": 0.0, "domain": "med", "heldout_after": 2}]
    for rate, valid, held in ((1e-4, 1.0, 1.3), (3e-4, 1.1, 1.2)):
        for domain in ("med", "books"):
            made = {"method": "open_ft", "learning_rate": rate, "domain": domain}
            lines.append(base | made | {"valid_after": valid, "heldout_after": held})
    (tmp_path / "open_model").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / forecast_table.OPEN_ROWS).write_text(text)
    curves = forecast_table.curves_of(evidence.table()["domains"])
    monkeypatch.setattr(forecast_table, "RESULTS", tmp_path)
    found = forecast_table.open_checkpoints(curves)
    assert [(each["domain"], each["bits_per_byte"]) for each in found] == [
        ("med", 1.3),
        ("books", 1.3),
    ]
    assert found[0]["own"] == round(curves["med"].at("own", 200_000), 4)
    with_rows(monkeypatch, *found)
    (one,) = open_rows.measured("open_ft", "own")
    assert (one.flops, one.served_bytes, one.seconds) == (1e12, 28, 3.1)
