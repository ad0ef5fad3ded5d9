"""What the result rows say: means, paired differences, the answer in words."""

import math
import re

import numpy as np
import pytest
from demo_fixtures import DOMAINS, expected, made_up_rows, rows_of

from specialm.reports import summary


def test_plain_table_holds_mean_and_deviation_of_the_rows():
    rows = made_up_rows()
    lines = summary.table(rows).splitlines()
    assert lines[1].split() == [*DOMAINS, "macro", "macro", "against", "slm"]
    for phase, title in (("finetuned", "after fine-tuning"), ("pretrained", "before fine-tuning")):
        start = lines.index(title)
        for line, method in zip(lines[start + 1 : start + 3], ("slm", "slm_is"), strict=True):
            assert line.split()[0] == method
            figures = re.findall(r"([\d.]+) ± ([\d.]+)(\*?)", line)[:4]
            for domain, (mean, sd, star) in zip((*DOMAINS, "macro"), figures, strict=True):
                true_mean, true_sd = expected(
                    rows, "perplexity", method=method, domain=domain, phase=phase
                )
                digits = len(mean.partition(".")[2])
                assert float(mean) == pytest.approx(true_mean, abs=0.5001 * 10**-digits)
                assert float(sd) == pytest.approx(true_sd, abs=0.5001 * 10**-digits)
                assert bool(star) == (method == "slm_is")


def test_difference_is_paired_by_seed():
    rows = made_up_rows(noise=0.1)
    by_seed = [
        next(
            r["perplexity"]
            for r in rows
            if (r["method"], r["domain"], r["phase"], r["seed"])
            == ("slm_is", "macro", "finetuned", seed)
        )
        / next(
            r["perplexity"]
            for r in rows
            if (r["method"], r["domain"], r["phase"], r["seed"])
            == ("slm", "macro", "finetuned", seed)
        )
        - 1
        for seed in range(3)
    ]
    found = summary.Summary(rows).difference("slm_is", "macro", "finetuned")
    assert list(found.values()) == pytest.approx(by_seed)
    text = f"{100 * np.mean(by_seed):+.1f}% ± {100 * np.std(by_seed, ddof=1):.1f}"
    assert text.replace("-", "−") in summary.table(rows)


def answer(rows):
    return summary.answer(summary.Summary(rows))


def test_answer_when_importance_sampling_is_better():
    first, second = answer(made_up_rows(gain=0.3, noise=0.0))
    assert first == (
        "After fine-tuning, SLM-is has 25.9% lower macro perplexity than SLM "
        "(lower in 3 of 3 domains and with 3 of 3 seeds)."
    )
    slm = math.exp(4.3)
    assert f"{slm * math.exp(-0.3):.2f} ± 0.00 against {slm:.2f} ± 0.00" in second


def test_answer_when_importance_sampling_is_worse():
    first, _ = answer(made_up_rows(gain=-0.1, noise=0.0))
    assert first == (
        "After fine-tuning, SLM-is has 10.5% higher macro perplexity than SLM "
        "(lower in 0 of 3 domains and with 0 of 3 seeds)."
    )


def test_answer_when_the_seeds_disagree_claims_no_winner():
    losses = {("slm", "finetuned", s): {"med": 4.0} for s in range(3)}
    losses |= {
        ("slm_is", "finetuned", s): {"med": 4.0 + d} for s, d in enumerate((-0.1, -0.1, 0.05))
    }
    first, _ = answer(rows_of(losses))
    assert "the seeds do not agree" in first and "with 2 of 3 seeds" in first
    assert not re.search(r"% (lower|higher)", first)


def test_answer_of_equal_models_and_of_one_seed():
    losses = {(m, "finetuned", 0): {"med": 4.0} for m in ("slm", "slm_is")}
    first, second = answer(rows_of(losses))
    assert "have the same macro perplexity" in first
    assert "one seed, so how much of it is chance is not known" in second


def test_answer_names_the_control_and_whether_the_gain_is_lost():
    def with_control(change):
        losses = {
            (m, "finetuned", s): {"med": 4.0 + d}
            for s in range(2)
            for m, d in (("slm", 0), ("slm_is", -0.3), ("slm_is_shuffled", change))
        }
        return answer(rows_of(losses))[2]

    assert with_control(0.02).endswith("differs from SLM by +2.0% ± 0.0: the gain is lost.")
    assert with_control(-0.1).endswith("differs from SLM by −9.5% ± 0.0.")


def test_macro_averages_over_other_domains_are_not_compared():
    losses = {
        ("slm", "finetuned", 0): {"med": 4.0, "news": 5.0},
        ("slm_is", "finetuned", 0): {"med": 3.9},
    }
    sentences = answer(rows_of(losses))
    assert not any("than SLM" in sentence for sentence in sentences)


def test_answer_says_when_training_lengths_differ():
    rows = made_up_rows()
    for row in rows:
        if row["method"] == "slm_is":
            row["train_tokens"] = 2_000_000
    assert "2M tokens against 1M" in answer(rows)[2]


def test_other_methods_are_compared_and_the_lowest_is_named():
    losses = {
        (m, "finetuned", 0): {"med": x}
        for m, x in (("slm", 4.0), ("slm_is", 3.9), ("llm", 3.5), ("mine", 4.1))
    }
    sentences = answer(rows_of(losses))
    assert sentences[-1] == (
        "After fine-tuning, the lowest macro perplexity of the 4 methods is that of LLM: "
        f"{math.exp(3.5):.2f}."
    )
    del losses["slm", "finetuned", 0]
    assert "lowest macro perplexity of the 3 methods is that of LLM" in answer(rows_of(losses))[0]


def test_a_later_row_replaces_an_earlier_one_and_not_finite_ones_are_left_out():
    rows = made_up_rows(seeds=(0,))
    changed = dict(rows[0], perplexity=123.4)
    cell = summary.Summary([*rows, changed]).cell(
        *(changed[k] for k in ("method", "domain", "phase"))
    )
    assert (cell.mean, cell.sd, cell.seeds) == (123.4, None, 1)
    lost = dict(rows[0], perplexity=float("nan"))
    assert summary.Summary([*rows, lost]).cell("slm", "med", "pretrained") is None
    assert "–" in summary.table([*rows, lost])


@pytest.mark.parametrize(
    "value,text", [(1.234, "1.23"), (128.43, "128.4"), (12345.6, "12,346"), (math.inf, "∞")]
)
def test_numbers_have_sensible_digits(value, text):
    assert summary.number(value) == text


@pytest.mark.parametrize(
    "value,text",
    [(950, "950"), (51_234, "51.2k"), (999_700, "1M"), (6_144_000, "6.14M"), (2.3e9, "2.3B")],
)
def test_counts_have_unit_letters(value, text):
    assert summary.count(value) == text
