"""A study's tables against NumPy, on made-up rows (tests/study_fixtures.py)."""

import math

import numpy as np
import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import Page
from study_fixtures import BUDGET, SIZE, perplexities, select

from specialm.reports import page, record_tables, study_tables, tables
from specialm.reports.parts import Report, Section
from specialm.reports.study_findings import findings
from specialm.reports.study_rows import Study
from specialm.reports.summary import count, label

ROWS = study_fixtures.rows()


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
            marked = [m for m, texts in cells.items() if isinstance(texts[j], tables.Best)]
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
    table = study_tables.choices(Study(ROWS, settings_))
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
    parameters = record_tables.parameters(record)
    assert line(parameters, "SLM-pn") == ["2M", "1M", "10M", "16"]
    fractions, entropies = record_tables.top_fractions(record), record_tables.entropies(record)
    assert fractions.header == ["Domain", "4 clusters", "16 clusters", "64 clusters"]
    assert [row[0] for row in fractions.rows] == [*study_fixtures.DOMAINS, "generic"]
    assert line(fractions, "law") == ["50.0%"] * 3
    assert line(entropies, "law") == [f"{0.3 + 0.5 * math.log(k):.2f}" for k in (4, 16, 64)]
    for table in (record_tables.parameters, record_tables.top_fractions, record_tables.entropies):
        assert table({}) is None
    del record["histograms"]["16"]["law"], record["models"]["slm"]["params"]
    assert line(record_tables.entropies(record), "law")[1] == "–"
    assert line(record_tables.parameters(record), "SLM")[1] == "–"


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


@pytest.mark.parametrize("key", ["contamination", "leaks"])  # early records have the second
def test_the_contamination_table_has_a_line_for_each_source(key):
    counts = {"trained": 1234, "leaked": 2, "covered": 3}
    record = {
        key: {
            "law": {
                "checked": 50,
                "too_short": 0,
                "against": {"generic": counts, "specialist": None},
            }
        }
    }
    table = record_tables.contamination(record)
    assert table.rows == [["law, against generic text", "50", "1,234", "2", "3"]]
    assert record_tables.contamination({}) is None


def test_an_unknown_method_stands_in_the_tables_under_its_own_name():
    rows = study_fixtures.rows(methods=("slm", "mine"), gain={"mine": 0.5})
    assert line(study_tables.main(rows), "mine")


def test_rendering_keeps_every_cell_and_escapes():
    table = tables.Table(
        "A & b",
        "note",
        ["", "x|y"],
        [
            ["group"],
            ["<a>", tables.Best("1.00 ± 0.10")],
            ["b", "2\n3"],
            ["c", tables.Share("4", 0.5)],
        ],
    )
    text = page.html(Report("t", [], [], sections=[Section("s", "S", [("a", table)])]))
    assert "<b>A &amp; b</b> note" in text and '<th scope="row">&lt;a&gt;</th>' in text
    assert '<td><b>1.00</b> <span class="sd">± 0.10</span></td>' in text
    assert '<th scope="rowgroup" colspan="2">group</th>' in text
    assert '<td>4<span class="bar"><span style="width:50.0%">' in text
    found = Page(text).tables[0]["rows"]
    assert found == [["", "x|y"], ["group"], ["<a>", "1.00 ± 0.10"], ["b", "2\n3"], ["c", "4"]]


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
            assert tables.to_csv(found).count("\n") == 1 + sum(len(row) > 1 for row in found.rows)
            assert tables.to_latex(found, "x").count("\\begin") == 2
    assert len(findings(rows)) == 7
