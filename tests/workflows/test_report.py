"""`specialm report`: all files of a demo and of a study, from their rows; nothing is lost."""

import csv
import json
import subprocess
import sys

import pytest
from demo_fixtures import made_up_run
from study_fixtures import SIZE, record, rows

from specialm import cli
from specialm.common.errors import UserError
from specialm.reports import charts, demo_page, study_page
from specialm.workflows import report as report_lib


@pytest.fixture
def undrawn(monkeypatch):
    """Reports without the time that drawing takes."""
    monkeypatch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))
    monkeypatch.setattr(charts, "in_files", lambda _, endings: dict.fromkeys(endings, b"drawn"))


def write_rows(folder, found):
    text = "".join(json.dumps(row) + "\n" for row in found)
    (folder / "results.jsonl").write_text(text)


def study_folder(folder):
    write_rows(folder, rows(methods=("slm", "slm_is", "slm_pn"), sizes=(SIZE,), seeds=(0, 1)))
    (folder / "study.json").write_text(json.dumps(record()))


def test_a_study_has_every_figure_and_table_as_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))
    study_folder(tmp_path)
    assert cli.main(["report", f"--workdir={tmp_path}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    files = {str(path) for path in tmp_path.rglob("*") if path.is_file()}
    inputs = {str(tmp_path / name) for name in ("results.jsonl", "study.json")}
    assert files - inputs == set(printed) and len(printed) == len(files) - 2
    figures = {p.stem for p in (tmp_path / "figures").iterdir()}
    assert "cost_by_domains" in figures and len(figures) == 8
    for name in figures:
        pdf = (tmp_path / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf
        assert "<svg" in (tmp_path / "figures" / f"{name}.svg").read_text()
    tables = {p.stem for p in (tmp_path / "tables").iterdir()}
    assert {"main", "spent", "parameters", "contamination"} <= tables
    for name in tables:
        found = list(csv.reader((tmp_path / "tables" / f"{name}.csv").open()))
        assert len(found) > 1
        assert rf"\label{{tab:{name}}}" in (tmp_path / "tables" / f"{name}.tex").read_text()


def test_a_report_again_changes_no_byte_and_deletes_what_is_no_longer_drawn(tmp_path, undrawn):
    study_folder(tmp_path)
    first = report_lib.report(tmp_path)
    before = {path: path.read_bytes() for path in first}
    (tmp_path / "figures" / "old.pdf").write_bytes(b"of an earlier report")
    (tmp_path / "figures" / "mine.txt").write_text("not of a report")
    assert report_lib.report(tmp_path) == first
    assert {path: path.read_bytes() for path in first} == before
    assert not (tmp_path / "figures" / "old.pdf").exists()
    assert (tmp_path / "figures" / "mine.txt").exists()
    assert not list(tmp_path.glob("report.*.html"))


def test_a_demo_is_drawn_from_its_record(tmp_path, undrawn):
    run = made_up_run()
    write_rows(tmp_path, run["results"])
    (tmp_path / "run.json").write_text(json.dumps(run))
    written = report_lib.report(tmp_path)
    assert (tmp_path / "report.html").read_text() == demo_page.html(run)
    names = {path.name for path in written}
    assert {"before_and_after.pdf", "pretraining.svg", "results_perplexity.csv"} <= names
    assert {"results_bits_per_byte.tex", "weights.csv", "corpora.tex"} <= names


def test_rows_alone_make_a_page_and_keep_the_fuller_one(tmp_path, undrawn, capsys):
    write_rows(tmp_path, made_up_run()["results"])
    (tmp_path / "report.html").write_text("with curves")
    for _ in range(2):  # the second time it is the same page
        report_lib.report(tmp_path)
    assert "run.json is not there" in capsys.readouterr().err
    assert (tmp_path / "report.1.html").read_text() == "with curves"
    assert not (tmp_path / "report.2.html").exists()
    page = (tmp_path / "report.html").read_text()
    assert 'id="results"' in page and 'id="curves"' not in page


def test_a_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no results\.jsonl there; run `specialm demo` or"):
        report_lib.report(tmp_path)


@pytest.mark.parametrize(
    "line,message",
    [
        ("{", "results.jsonl, line 1: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ('{"x": 1}', "row 1: no domain and no method"),
    ],
)
def test_rows_of_another_kind_are_named(tmp_path, line, message):
    (tmp_path / "results.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        report_lib.report(tmp_path)


def test_training_never_pays_for_drawing():
    code = (
        "import sys; from specialm import cli, commands; "
        "from specialm.workflows import demo, study, pipeline, pretraining, report; "
        "from specialm.reports import demo_page, study_page, demo_figures, weight_figures; "
        "sys.exit(7 if {'matplotlib', 'jinja2'} & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_part_of_a_page_is_on_it_once():
    for sections in (demo_page.SECTIONS, study_page.SECTIONS):
        names = [function.__name__ for _, functions in sections.values() for function in functions]
        assert len(names) == len(set(names))
