"""A study's tables and findings against NumPy, on made-up rows (tests/study_fixtures.py)."""

import math
import re

import numpy as np
import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.reports import study_tables
from specialm.reports.study_rows import Study
from specialm.reports.summary import METHODS, count, label

BUDGET, SIZE = max(study_fixtures.BUDGETS), min(study_fixtures.SIZES)
ROWS = study_fixtures.rows()


def select(rows, **where):
    where = {"variant": "", **where}
    return [r for r in rows if all(r[k] == v for k, v in where.items())]


def perplexities(rows, method, size=SIZE, budget=BUDGET, phase="finetuned", domain="macro"):
    """{seed: perplexity}, straight from the rows."""
    budget = 0 if method == "slm_nopt" else budget
    return {
        r["seed"]: r["perplexity"]
        for r in select(
            rows,
            method=method,
            specialist_tokens=size,
            train_tokens=budget,
            phase=phase,
            domain=domain,
        )
    }


def finding(rows, name):
    (found,) = [f for f in study_tables.findings(rows) if f.name == name]
    return found


def line(table, name, group=None):
    """The cells of a row, the first of that name or the one below the group's heading."""
    start = next(i for i, row in enumerate(table.rows) if row == [group]) if group else 0
    return next(row[1:] for row in table.rows[start:] if row[0] == name)


def same(text, values):
    """The text is mean ± sample standard deviation of the values, to its own digits."""
    mean, sd = (float(part.replace(",", "")) for part in text.split(" ± "))
    digits = len(text.split(" ± ")[0].partition(".")[2])
    assert mean == pytest.approx(np.mean(values), abs=0.5001 * 10**-digits)
    assert sd == pytest.approx(np.std(values, ddof=1), abs=0.5001 * 10**-digits)


# --- the grid ---


def test_the_grid_is_read_off_the_main_arms():
    study = Study(ROWS)
    assert study.methods == sorted(study_fixtures.METHODS, key=list(METHODS).index)
    assert tuple(study.budgets) == study_fixtures.BUDGETS
    assert tuple(study.sizes) == study_fixtures.SIZES
    assert tuple(study.domains) == study_fixtures.DOMAINS
    assert (study.budget, study.size, study.left_out) == (BUDGET, SIZE, 0)


def test_the_reported_budget_is_one_where_methods_can_be_compared():
    rows = [r for r in ROWS if r["train_tokens"] < BUDGET or r["method"] == "slm"]
    assert Study(rows).budget == study_fixtures.BUDGETS[1]
    assert Study(select(ROWS, method="slm")).budget == BUDGET
    assert Study([]).budget is None


def test_a_later_row_wins_and_rows_that_are_not_finite_are_left_out():
    row = select(
        ROWS,
        method="slm",
        phase="finetuned",
        domain="macro",
        seed=0,
        train_tokens=BUDGET,
        specialist_tokens=SIZE,
    )[0]
    at = dict(budget=BUDGET, size=SIZE)
    assert Study([row, dict(row, perplexity=7.0)]).values("slm", **at) == {0: 7.0}
    assert Study([row, dict(row, perplexity=math.nan)]).values("slm", **at) == {
        0: row["perplexity"]
    }


def test_generic_text_of_models_made_for_a_domain_is_averaged_as_losses():
    found = Study(ROWS).values("slm_is", "generic", "pretrained", BUDGET, SIZE)
    for seed, value in found.items():
        losses = [
            r["nll_per_token"]
            for r in select(
                ROWS,
                method="slm_is",
                domain="generic",
                train_tokens=BUDGET,
                seed=seed,
                specialist_tokens=SIZE,
            )
        ]
        assert len(losses) == len(study_fixtures.DOMAINS)
        assert value == pytest.approx(math.exp(np.mean(losses)))


def test_a_macro_average_over_fewer_domains_is_left_out():
    lost = dict(
        method="slm_pn",
        domain="law",
        phase="finetuned",
        seed=1,
        train_tokens=BUDGET,
        specialist_tokens=SIZE,
    )
    gone = select(ROWS, **lost)[0]
    study = Study([r for r in ROWS if r is not gone])
    assert study.left_out == 1
    assert set(study.values("slm_pn", budget=BUDGET, size=SIZE)) == {0, 2}


def test_costs_are_means_over_domains_and_seeds():
    rows = select(
        ROWS, method="slm", phase="finetuned", train_tokens=BUDGET, specialist_tokens=SIZE
    )
    rows = [
        dict(r, specialise_flops=float(i)) for i, r in enumerate(rows) if r["domain"] != "macro"
    ]
    once, each = Study(rows).costs("slm", BUDGET, SIZE)
    assert once.flops == rows[0]["generic_flops"]
    assert each.flops == pytest.approx(np.mean([r["specialise_flops"] for r in rows]))


# --- findings ---


def test_the_best_small_model_is_named_with_its_numbers():
    found = finding(ROWS, "best_small")
    best, second = perplexities(ROWS, "slm_is"), perplexities(ROWS, "slm_pn")
    change = [best[s] / second[s] - 1 for s in best]
    assert found.holds is True
    assert f"is SLM-is, macro perplexity {np.mean(list(best.values())):.2f} ±" in found.sentence
    assert f"next is SLM-pn, {np.mean(list(second.values())):.2f} ±" in found.sentence
    assert f"−{-100 * np.mean(change):.1f}% ±" in found.sentence
    assert "SLM-is lower with 3 of 3 seeds" in found.sentence


def test_another_best_small_model_is_named_and_importance_sampling_with_it():
    found = finding(study_fixtures.rows(gain={"soup": 0.8, "slm_pn": 0.7}), "best_small")
    assert found.holds is False
    assert "is Soup-of-Experts" in found.sentence and "next is SLM-pn" in found.sentence
    assert "SLM-is, 5" in found.sentence and "is not among the two" in found.sentence


def test_a_best_small_model_that_is_not_best_with_every_seed_is_left_open():
    rows = [dict(r) for r in ROWS]
    for row in rows:
        if (row["method"], row["domain"], row["phase"], row["seed"]) == (
            "slm_pn",
            "macro",
            "finetuned",
            2,
        ):
            row["perplexity"] *= 0.8
    found = finding(rows, "best_small")
    assert found.holds is None and "SLM-is lower with 2 of 3 seeds" in found.sentence


@pytest.mark.parametrize(
    ("gain", "holds", "words"),
    [(0.3, True, "SLM-is beats the LLM there"), (0.1, False, "SLM-is does not beat the LLM there")],
)
def test_importance_sampling_against_the_large_model(gain, holds, words):
    rows = study_fixtures.rows(gain={"slm_is": gain})
    found = finding(rows, "over_llm")
    assert found.holds is holds and found.sentence.startswith(words)
    for method in ("slm_is", "llm"):
        assert f"{np.mean(list(perplexities(rows, method).values())):.2f} ±" in found.sentence


def test_seeds_that_disagree_decide_nothing():
    rows = [dict(r) for r in ROWS]
    for row in rows:
        if (row["method"], row["domain"], row["phase"], row["seed"]) == (
            "slm_is",
            "macro",
            "finetuned",
            1,
        ):
            row["perplexity"] *= 2
    found = finding(rows, "over_llm")
    assert found.holds is None and "lower with 2 of 3 seeds" in found.sentence
    assert "cannot be told from the LLM" in found.sentence


def test_one_seed_is_said_to_be_one():
    found = finding(study_fixtures.rows(seeds=(0,)), "over_llm")
    assert found.holds is True and "with one seed" in found.sentence


def test_fine_tuning_helps_everywhere_or_the_worst_place_is_named():
    found = finding(ROWS, "fine_tuning")
    combinations = (
        (len(study_fixtures.METHODS) - 1) * len(study_fixtures.BUDGETS) * len(study_fixtures.SIZES)
    )
    assert found.holds is True and f"in {combinations} of {combinations}" in found.sentence
    worse = [
        dict(r, perplexity=9e4)
        if r["domain"] == "macro"
        and r["phase"] == "finetuned"
        and r["method"] == "soup"
        and r["train_tokens"] == BUDGET
        and r["variant"] == ""
        and r["specialist_tokens"] == SIZE
        else r
        for r in ROWS
    ]
    found = finding(worse, "fine_tuning")
    assert found.holds is False and f"in 1 of {combinations}" in found.sentence
    assert f"worst: Soup-of-Experts at {count(BUDGET)} and {count(SIZE)} tokens" in found.sentence


def by_hand(rows, method, other, budget):
    """[change of each seed] at equal total cost for one domain, from the made-up cost formula."""

    def total(name, b):
        row = select(
            rows,
            method=name,
            phase="finetuned",
            domain="macro",
            train_tokens=b,
            specialist_tokens=SIZE,
        )[0]
        return row["generic_flops"] + row["specialise_flops"]

    here = math.log(total(method, budget))
    points = [math.log(total(other, b)) for b in study_fixtures.BUDGETS]
    changes = []
    for seed in study_fixtures.SEEDS:
        y = [perplexities(rows, other, budget=b)[seed] for b in study_fixtures.BUDGETS]
        i = next(i for i in range(len(y) - 1) if points[i] <= here <= points[i + 1])
        share = (here - points[i]) / (points[i + 1] - points[i])
        there = y[i] + share * (y[i + 1] - y[i])
        changes.append(perplexities(rows, method, budget=budget)[seed] / there - 1)
    return changes


def test_equal_cost_interpolates_in_log_cost_at_the_largest_budget_in_range():
    # A token costs slm_pn 5/3 of slm's: its largest budget is out of slm's range.
    sentence = finding(ROWS, "experts_over_slm").sentence
    budget = study_fixtures.BUDGETS[1]
    change = by_hand(ROWS, "slm_pn", "slm", budget)
    assert (
        f"SLM-pn is better ({count(budget)} tokens: −{-100 * np.mean(change):.1f}% ± "
        f"{100 * np.std(change, ddof=1):.1f}, SLM-pn lower with 3 of 3 seeds)"
    ) in sentence
    assert finding(ROWS, "experts_over_slm").holds is True
    change = by_hand(ROWS, "slm_pn", "slm_d", BUDGET)
    assert (
        f"SLM-pn is better ({count(BUDGET)} tokens: −{-100 * np.mean(change):.1f}%"
        in finding(ROWS, "experts_over_slm_d").sentence
    )


def test_experts_that_lose_at_equal_cost_are_said_to_lose():
    found = finding(study_fixtures.rows(gain={"slm_mix": -0.1}), "experts_over_slm")
    assert found.holds is False
    assert "SLM-pn is better" in found.sentence and "SLM-mix is not better" in found.sentence


def test_below_the_range_the_nearest_dearer_point_is_taken_and_said():
    # slm_d pays for its teacher: with one budget each its only point is dearer.
    def one_budget(gain):
        return finding(study_fixtures.rows(budgets=(BUDGET,), gain=gain), "experts_over_slm_d")

    better = one_budget({})
    assert better.holds is True and "against a dearer SLM-d" in better.sentence
    # Losing to a model that cost more is no answer.
    worse = one_budget({"slm_pn": -0.5, "slm_mix": -0.5})
    assert worse.holds is None and "SLM-mix is not known to be better" in worse.sentence


def test_above_the_range_nothing_can_be_compared():
    found = finding(study_fixtures.rows(budgets=(BUDGET,)), "experts_over_slm")
    assert (
        found.holds is None
        and "SLM-pn cannot be compared (every run of it costs more" in found.sentence
    )


@pytest.mark.parametrize("shrinks", [True, False])
def test_the_advantage_by_set_size(shrinks):
    rows = ROWS
    if not shrinks:
        rows = [
            dict(r, perplexity=r["perplexity"] / 2)
            if r["method"] == "slm_mix" and r["specialist_tokens"] == max(study_fixtures.SIZES)
            else r
            for r in ROWS
        ]
    found = finding(rows, "advantage_shrinks")
    assert found.holds is shrinks
    for method in ("slm_is", "slm_pn", "slm_mix"):
        gains = []
        for size in (SIZE, max(study_fixtures.SIZES)):
            ours, base = perplexities(rows, method, size), perplexities(rows, "slm", size)
            gains.append(100 * np.mean([1 - ours[s] / base[s] for s in ours]))
        found_gains = re.search(
            rf"{label(method)} ([\d.]+)% ± [\d.]+ and ([\d.]+)% ±", found.sentence
        )
        assert [float(g) for g in found_gains.groups()] == pytest.approx(gains, abs=0.051)


def test_no_advantage_cannot_shrink():
    losing = {"slm_is": -0.1, "slm_pn": -0.1, "slm_mix": -0.1}
    found = finding(study_fixtures.rows(gain=losing), "advantage_shrinks")
    assert found.holds is None and "no such method is better on the smallest set" in found.sentence


@settings(max_examples=20)
@given(st.floats(0.05, 20))
def test_the_crossover_is_the_first_number_of_domains_that_costs_more(times):
    rows = [
        dict(r, generic_flops=times * r["generic_flops"]) if r["method"] == "slm_pn" else r
        for r in ROWS
        if r["method"] in ("slm_is", "slm_pn") and r["phase"] == "finetuned"
    ]
    sampled, projected = (
        select(rows, method=m, domain="med", train_tokens=BUDGET, specialist_tokens=SIZE)[0]
        for m in ("slm_is", "slm_pn")
    )
    first = next(
        n
        for n in range(1, 200)
        if n * sampled["specialise_flops"]
        > projected["generic_flops"] + n * projected["specialise_flops"]
    )
    found = finding(rows, "crossover")
    assert found.holds is True
    assert found.sentence.startswith(f"From {first} domain{'s' * (first > 1)} on, SLM-is costs")


def test_importance_sampling_that_is_always_cheaper_never_crosses():
    rows = [dict(r, specialise_flops=1.0) if r["method"] == "slm_is" else r for r in ROWS]
    assert finding(rows, "crossover").holds is False


def test_without_rows_nothing_is_told():
    assert {f.holds for f in study_tables.findings([])} == {None}
    assert all("cannot be told" in f.sentence for f in study_tables.findings([]))


# --- tables ---


def test_the_main_table_holds_mean_and_deviation_and_marks_the_best_small_model():
    table = study_tables.main(ROWS)
    assert table.header[-3:] == [f"Macro, {count(s)} tokens" for s in study_fixtures.SIZES]
    for budget in study_fixtures.BUDGETS:
        cells = {
            m: line(table, label(m), f"{count(budget)} generic tokens")
            for m in study_fixtures.METHODS
            if m != "slm_nopt"
        }
        for method, texts in cells.items():
            before = perplexities(
                ROWS,
                method,
                phase="pretrained",
                budget=budget,
                size=SIZE if method in study_fixtures.PER_DOMAIN else 0,
            )
            same(texts[1], list(before.values()))
            for text, size in zip(texts[2:], study_fixtures.SIZES, strict=True):
                same(text, list(perplexities(ROWS, method, size, budget).values()))
        for j in range(1, 5):
            marked = [m for m, texts in cells.items() if isinstance(texts[j], study_tables.Best)]
            small = [m for m in cells if not m.startswith("llm")]
            assert marked == [min(small, key=lambda m: float(cells[m][j].split()[0]))]  # noqa: B023
    same(
        line(table, "SLM-nopt", "no generic pretraining")[2],
        list(perplexities(ROWS, "slm_nopt").values()),
    )


def test_the_domain_table_holds_every_domain_and_size():
    table = study_tables.domains(ROWS)
    assert table.header[1:] == [*study_fixtures.DOMAINS, "macro"]
    for size in study_fixtures.SIZES:
        texts = line(table, "SLM-pn", f"{count(size)} specialist tokens")
        for text, domain in zip(texts, table.header[1:], strict=True):
            same(text, list(perplexities(ROWS, "slm_pn", size, domain=domain).values()))


def test_cost_of_a_billion_tokens_follows_the_rates():
    table = study_tables.cost_per_billion(ROWS)
    hours = 24e6 * 1e9 / (0.4 * 312e12) / 3600
    device = 24e6 * 1e9 / 5e10 / 3600
    assert line(table, "LLM") == ["24 PFLOP", f"{hours:.3g}", f"{device:.3g}"] * 2
    assert line(table, "SLM-is")[:3] == ["–"] * 3 and line(table, "SLM-is")[3] == "6 PFLOP"
    assert line(table, "SLM-d")[0] == "15 PFLOP"  # as many tokens at 24 as at 6 MFLOP


def test_the_cost_spent_keeps_what_is_paid_once_apart():
    table = study_tables.spent(ROWS)
    once, *each = line(table, "SLM-pn")[:4]
    assert once == f"{10e6 * BUDGET / 1e12:.3g} TFLOP"
    assert each[1:] == [f"{10e6 * 4 * s / 1e12:.3g} TFLOP" for s in study_fixtures.SIZES[1:]]
    assert each[0] == f"{10e6 * 4 * SIZE / 1e9:.3g} GFLOP"
    assert line(table, "SLM-pn")[5] == "8.0 s"  # 4e11 FLOPs at 5e10 a second
    assert line(table, "SLM-is")[0] == "0"


@pytest.mark.parametrize("settings_", [study_fixtures.record()["settings"], None])
def test_expert_choice_is_a_multiple_of_one_fine_tuning(settings_):
    table = study_tables.choices(ROWS, settings_)
    main = "frequent" if settings_ else "main arm"
    assert [row[0] for row in table.rows[1:]] == [main, "loss", "finetune"]
    assert [row[2] for row in table.rows[1:]] == ["1.00×", "1.00×", "4.00×"]
    same(line(table, main)[0], list(perplexities(ROWS, "slm_mix").values()))


def test_steps_are_means_over_domains_and_seeds():
    assert line(study_tables.steps(ROWS), "SLM") == ["60 of 100", "120 of 200", "180 of 300"]
    rows = [{k: v for k, v in r.items() if k != "best_step"} for r in ROWS]
    assert line(study_tables.steps(rows), "SLM")[0] == "? of 100"


def test_tables_of_the_record():
    record = study_fixtures.record()
    parameters = study_tables.parameters(record)
    assert line(parameters, "SLM-pn") == ["2M", "1M", "10M", "16"]
    fractions, entropies = study_tables.top_fractions(record), study_tables.entropies(record)
    assert fractions.header == ["Domain", "4 clusters", "16 clusters", "64 clusters"]
    assert [row[0] for row in fractions.rows] == [*study_fixtures.DOMAINS, "generic"]
    assert line(fractions, "law") == ["50.0%"] * 3
    assert line(entropies, "law") == [f"{0.3 + 0.5 * math.log(k):.2f}" for k in (4, 16, 64)]
    for table in (study_tables.parameters, study_tables.top_fractions, study_tables.entropies):
        assert table({}) is None
    del record["histograms"]["16"]["law"], record["models"]["slm"]["params"]
    assert line(study_tables.entropies(record), "law")[1] == "–"
    assert line(study_tables.parameters(record), "SLM")[1] == "–"


def test_variants_stand_next_to_their_arm_with_the_same_seeds():
    place = dict(specialist_tokens=SIZE, domain="macro", phase="finetuned")
    own = [
        r
        for r in ROWS
        if r["method"] == "slm_is"
        and r["variant"]
        and all(r[key] == value for key, value in place.items())
    ]
    one = [
        r for r in ROWS if r["variant"] != own[0]["variant"] or r["seed"] == own[0]["seed"]
    ]  # this variant has one seed
    row = next(
        row
        for row in study_tables.variants(one).rows
        if row[0] == f"{label('slm_is')}, {own[0]['variant']}"
    )
    main = perplexities(ROWS, "slm_is", budget=own[0]["train_tokens"])[own[0]["seed"]]
    assert float(row[2]) == pytest.approx(own[0]["perplexity"], abs=0.0051)
    assert float(row[3]) == pytest.approx(main, abs=0.0051)
    assert study_tables.variants(select(ROWS)) is None


def test_the_leak_table_has_a_line_for_each_source():
    counts = {"trained": 1234, "leaked": 2, "covered": 3}
    record = {
        "leaks": {
            "law": {
                "checked": 50,
                "too_short": 0,
                "against": {"generic": counts, "specialist": None},
            }
        }
    }
    table = study_tables.leaks(record)
    assert table.rows == [["law, against generic text", "50", "1,234", "2", "3"]]
    assert study_tables.leaks({}) is None


def test_an_unknown_method_stands_in_the_tables_under_its_own_name():
    rows = study_fixtures.rows(methods=("slm", "mine"), gain={"mine": 0.5})
    assert line(study_tables.main(rows), "mine")
    assert "is mine, macro" in finding(rows, "best_small").sentence


def test_rendering_keeps_every_cell_and_escapes():
    table = study_tables.Table(
        "A & b",
        "note",
        ["", "x|y"],
        [["group"], ["<a>", study_tables.Best("1.00 ± 0.10")], ["b", "2\n3"]],
    )
    page = study_tables.html(table)
    assert "A &amp; b" in page and "&lt;a&gt;" in page
    assert '<td><b>1.00</b> <span class="sd">± 0.10</span></td>' in page
    assert '<tr class="phase"><th colspan="2">group</th></tr>' in page
    text = study_tables.markdown(table).splitlines()
    lines = [re.split(r"(?<!\\)\|", row)[1:-1] for row in text if row.startswith("|")]
    assert [[c.strip() for c in row] for row in lines] == [
        ["", "x\\|y"],
        ["-" * 9, "-" * 14 + ":"],
        ["**group**", ""],
        ["<a>", "**1.00 ± 0.10**"],
        ["b", "2 3"],
    ]
    assert len({len(row) for row in text if row.startswith("|")}) == 1


TABLES = (
    study_tables.cost_per_billion,
    study_tables.spent,
    study_tables.main,
    study_tables.domains,
    study_tables.choices,
    study_tables.steps,
    study_tables.variants,
)


@pytest.mark.parametrize("table", TABLES)
def test_no_rows_no_table(table):
    assert table([]) is None


@settings(max_examples=25)
@given(st.data())
def test_any_part_of_a_study_has_tables_and_findings(data):
    """A killed study: any rows may be missing, and any of the fields that a row may lack."""
    small = study_fixtures.rows(
        methods=("slm", "slm_is", "slm_pn", "slm_mix", "llm"),
        budgets=study_fixtures.BUDGETS[:2],
        sizes=study_fixtures.SIZES[:2],
        domains=("med", "law"),
        seeds=(0, 1),
    )
    share = data.draw(st.sampled_from([0.01, 0.1, 0.5, 0.9]))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    fields = (
        "variant",
        "target",
        "specialise_flops",
        "generic_flops",
        "steps",
        "generic_tokens",
        "specialise_device_seconds",
    )
    gone = {f for f in fields if rng.random() < 0.3}
    rows = [{k: v for k, v in r.items() if k not in gone} for r in small if rng.random() < share]
    for table in TABLES:
        found = table(rows)
        if found:
            assert {len(row) for row in found.rows} <= {1, len(found.header)}
            study_tables.markdown(found)
            study_tables.html(found)
    assert len(study_tables.findings(rows)) == 7
