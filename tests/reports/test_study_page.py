"""A study's page: in one piece, nothing from outside, and whole with any part of the input gone."""

import re

import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import Page, check_accessible, check_alone

from specialm.reports import (
    charts,
    cost_figures,
    equal_cost,
    record_tables,
    study_page,
    study_tables,
)
from specialm.reports.study_findings import findings

ROWS = study_fixtures.rows(methods=("slm", "slm_is", "slm_pn", "slm_mix", "llm", "slm_nopt"))
HOSTILE = "<script>alert('x')</script> & \"quoted\" https://example.org/\x00 $x_1$"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The text of the page of the whole study."""
    path = tmp_path_factory.mktemp("study") / "new" / "report.html"
    study_page.write(ROWS, study_fixtures.record(), path)
    assert list(path.parent.iterdir()) == [path]
    return path.read_text(encoding="utf-8")


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without the time that drawing takes."""
    monkeypatch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))


def test_the_page_stands_alone_and_everyone_can_read_it(written):
    page = check_alone(written)
    check_accessible(written)
    assert len(written) < 1.5e6 and written.endswith("</html>\n")
    assert page.tags.count("figure") == page.tags.count("figcaption") == 8
    assert "prefers-color-scheme: dark" in written and "@media print" in written


def test_a_figure_is_the_same_again():
    chart = cost_figures.cost_by_domains(ROWS)
    assert charts.on_page(chart) == charts.on_page(chart)
    endings = ("pdf", "svg", "png")
    assert charts.in_files(chart, endings) == charts.in_files(chart, endings)


def test_the_findings_come_first_then_every_figure_its_tables_and_the_provenance(written):
    page = Page(written)
    texts = " ".join(page.texts)
    places = [texts.index(f.sentence) for f in findings(ROWS)]
    assert places == sorted(places)
    record = study_fixtures.record()
    tables = (
        study_tables.main(ROWS),
        study_tables.steps(ROWS),
        equal_cost.equal_total_cost(ROWS),
        study_tables.cost_per_billion(ROWS),
        study_tables.spent(ROWS),
        study_tables.domains(ROWS),
        record_tables.entropies(record),
        study_tables.choices(ROWS),
        study_tables.variants(ROWS),
        record_tables.top_fractions(record),
        record_tables.parameters(record),
        record_tables.contamination(record),
    )
    later = [texts.index(table.note[:60], places[-1]) for table in tables]
    assert later == sorted(later)
    assert page.sections() == list(study_page.SECTIONS)
    assert "specialm study --x=1" in texts[later[-1] :]
    assert page.tags.count("table") == len(tables)


def test_the_marks_say_what_holds(written):
    text = written
    found = [f.holds for f in findings(ROWS)[1:]]
    marks = re.findall(r'<span class="tag (\w+)">([^<]+)</span>', text)
    assert marks == [study_page.MARKS[holds] for holds in found]
    assert {True, None} <= set(found)  # slm_d was not run


def test_what_is_missing_is_said(written, undrawn):
    assert "The study is incomplete: 90 of 100 cells are done." in written
    gone = next(r for r in ROWS if (r["domain"], r["phase"]) == ("law", "finetuned"))
    text = study_page.html([r for r in ROWS if r is not gone], dict(cells=dict(done=4, planned=4)))
    assert "incomplete" not in text
    assert "1 macro average over only some of the domains was left out." in text


def test_a_new_figure_is_one_function_and_one_name(monkeypatch, undrawn):
    def mine(study):
        """A figure from outside."""
        return charts.Chart("A new figure", "How to read it.", [charts.Panel(print)])

    new = {"mine": ("My section", (mine, study_tables.main))}
    monkeypatch.setattr(study_page, "SECTIONS", study_page.SECTIONS | new)
    found = study_page.report(ROWS, {})
    assert list(found.charts())[-1] == "mine"
    page = Page(study_page.html(ROWS, {}))
    assert "mine" in page.sections() and "A new figure" in page.texts


def test_without_anything_the_page_says_so():
    page = Page(study_page.html([], {}))
    assert "There are no results yet." in " ".join(page.texts) and page.sections() == []


def test_text_is_escaped():
    record = study_fixtures.record()
    record["title"] = record["command"] = HOSTILE
    record["settings"][HOSTILE] = HOSTILE
    record["histograms"]["16"][HOSTILE] = dict(entropy=1.0)
    rows = study_fixtures.rows(methods=("slm", HOSTILE), domains=("med", HOSTILE), seeds=(0,))
    text = study_page.html(rows, record)
    page = Page(text)
    assert page.tags.count("script") == 1 and "\x00" not in text
    assert sum("<script>alert('x')</script>" in piece for piece in page.texts) >= 10


@settings(max_examples=20)
@given(st.sets(st.sampled_from(sorted(study_fixtures.record()))), st.booleans())
def test_any_part_of_the_record_may_be_missing_or_empty(gone, empty):
    record = study_fixtures.record()
    for key in gone:
        if empty:
            record[key] = type(record[key])()
        else:
            del record[key]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))
        page = Page(study_page.html(ROWS[:300], record))
    assert "perplexity" in page.sections() and page.tags.count("table") >= 3
    assert ("models" in page.sections()) == ("models" not in gone)
