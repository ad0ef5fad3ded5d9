"""A study's page: in one piece, nothing from outside, and whole with any part of the input gone."""

import base64
import re
import sys
from html.parser import HTMLParser

import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.reports import study_page, study_tables

ROWS = study_fixtures.rows(methods=("slm", "slm_is", "slm_pn", "slm_mix", "llm", "slm_nopt"))
HOSTILE = "<script>alert('x')</script> & \"quoted\" https://example.org/\x00"
VOID = {"meta", "img"}
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """Tags, attributes, texts and the open tags of each; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(text)

    def ids(self):
        return [value for name, value in self.attributes if name == "id"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder, paths, page text) of the whole study."""
    folder = tmp_path_factory.mktemp("study") / "new"
    paths = study_page.write(ROWS, study_fixtures.record(), folder)
    return folder, paths, (folder / "report.html").read_text(encoding="utf-8")


def test_write_leaves_the_page_and_the_figures(written):
    folder, paths, text = written
    assert sorted(paths) == sorted(p for p in folder.rglob("*") if p.is_file())
    assert paths[0] == folder / "report.html" and len(paths) == 9
    assert all(p.read_bytes().startswith(PNG) for p in paths[1:])
    assert len(text) < 3e6 and text.endswith("</html>\n")


def test_the_page_holds_each_figure_with_its_description(written):
    _, paths, text = written
    shown = [
        base64.b64decode(found)
        for found in re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    ]
    assert sorted(shown) == sorted(p.read_bytes() for p in paths[1:])
    assert len([v for k, v in Page(text).attributes if k == "alt" and len(v) > 40]) == 8


def test_the_page_stands_alone(written):
    text = written[2]
    page = Page(text)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on") and "http" not in (value or "")
        assert name not in ("srcset", "data", "action", "poster")
        if name == "src":
            assert value.startswith("data:image/png;base64,")
        if name == "href":
            assert value.startswith("#") and value[1:] in page.ids()
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "prefers-color-scheme: dark" in style and "@media print" in style


def test_the_findings_come_first_then_every_figure_its_tables_and_the_provenance(written):
    page = Page(written[2])
    texts = " ".join(page.texts)
    places = [texts.index(f.sentence) for f in study_tables.findings(ROWS)]
    assert places == sorted(places)
    record = study_fixtures.record()
    tables = (
        study_tables.main(ROWS),
        study_tables.steps(ROWS),
        study_tables.cost_per_billion(ROWS),
        study_tables.spent(ROWS),
        study_tables.domains(ROWS),
        study_tables.entropies(record),
        study_tables.choices(ROWS),
        study_tables.variants(ROWS),
        study_tables.top_fractions(record),
        study_tables.parameters(record),
        study_tables.leaks(record),
    )
    later = [texts.index(table.note[:60], places[-1]) for table in tables]
    assert later == sorted(later)
    assert page.ids() == [*study_page.SECTIONS, "run"]
    assert "specialm study --x=1" in texts[later[-1] :]
    assert page.tags.count("table") == len(tables)


def test_the_marks_say_what_holds(written):
    text = written[2]
    found = [f.holds for f in study_tables.findings(ROWS)[1:]]
    marks = re.findall(r'<span class="tag \w+">([^<]+)</span>', text)
    assert marks == [study_page.MARKS[holds] for holds in found]
    assert {True, None} <= set(found)  # slm_d was not run


def test_what_is_missing_is_said(written):
    assert "The study is incomplete: 90 of 100 cells are done." in written[2]
    gone = next(r for r in ROWS if (r["domain"], r["phase"]) == ("law", "finetuned"))
    text = study_page.html(
        [r for r in ROWS if r is not gone], dict(cells=dict(done=4, planned=4)), {}
    )
    assert "incomplete" not in text
    assert "1 macro average over only some of the domains was left out." in text


def test_a_second_report_leaves_no_figure_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(study_page, "draw", lambda rows, record: {"total_cost": PNG})
    assert len(study_page.write(ROWS, {}, tmp_path)) == 2
    monkeypatch.setattr(study_page, "draw", lambda rows, record: {})
    assert study_page.write(ROWS, {}, tmp_path) == [tmp_path / "report.html"]
    assert not list((tmp_path / "figures").iterdir())


def test_without_anything_the_page_says_so(tmp_path):
    paths = study_page.write([], {}, tmp_path)
    assert paths == [tmp_path / "report.html"]
    page = Page(paths[0].read_text(encoding="utf-8"))
    assert "There are no results yet." in page.texts and page.ids() == []


def test_text_is_escaped():
    record = study_fixtures.record()
    record["title"] = record["command"] = HOSTILE
    record["settings"][HOSTILE] = HOSTILE
    record["histograms"]["16"][HOSTILE] = dict(entropy=1.0)
    rows = study_fixtures.rows(methods=("slm", HOSTILE), domains=("med", HOSTILE), seeds=(0,))
    text = study_page.html(rows, record, {})
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
    page = Page(study_page.html(ROWS[:300], record, {}))
    assert "perplexity" in page.ids() and page.tags.count("table") >= 3
    assert ("models" in page.ids()) == ("models" not in gone)


def test_without_matplotlib_nothing_is_written_and_the_message_helps(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "specialm.reports.figures", raising=False)
    monkeypatch.delattr("specialm.reports.figures", raising=False)
    with pytest.raises(UserError, match=r"pip install 'specialm\[report\]'"):
        study_page.write(ROWS, {}, tmp_path / "new")
    assert not (tmp_path / "new").exists()
