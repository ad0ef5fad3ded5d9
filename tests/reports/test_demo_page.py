"""The demo's page: its tables against NumPy, and in one piece with any part of the record gone."""

import re

import numpy as np
import pytest
from demo_fixtures import DOMAINS, HOSTILE, expected, made_up_rows, made_up_run, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from page_reader import Page, check_accessible, check_alone

from specialm.evaluation import perplexity
from specialm.reports import charts, demo_page, styles, summary, words
from specialm.training.scoring import Score


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without the time that drawing takes."""
    monkeypatch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))


def test_page_tables_hold_both_units_and_the_macro_column(undrawn):
    rows = made_up_rows()
    tables = Page(demo_page.html(dict(results=rows))).tables
    for field, title in (("perplexity", "Perplexity"), ("bits_per_byte", "Bits")):
        table = next(t["rows"] for t in tables if t["caption"].startswith(title))
        assert table[0] == ["", *DOMAINS, "macro average"]
        for phase, heading in (("finetuned", "After"), ("pretrained", "Before")):
            start = table.index([f"{heading} fine-tuning"])
            for row, method in zip(table[start + 1 : start + 3], ("slm", "slm_is"), strict=True):
                assert row[0] == summary.label(method)
                for domain, text in zip((*DOMAINS, "macro"), row[1:], strict=True):
                    figures = re.findall(r"[\d.]+", text)
                    digits = {len(figure.partition(".")[2]) for figure in figures}.pop()
                    wanted = expected(rows, field, method=method, domain=domain, phase=phase)
                    assert digits >= 1
                    np.testing.assert_allclose(
                        [float(x) for x in figures], wanted, atol=0.501 * 10**-digits
                    )


def test_a_new_metric_is_in_rows_and_on_the_page(monkeypatch, undrawn):
    metric = perplexity.Metric(
        "nats_per_byte",
        "nats per byte",
        "nats/byte",
        4,
        lambda score: score.nll / score.bytes,
        lambda rows: max(row["nats_per_byte"] for row in rows),
    )
    monkeypatch.setattr(perplexity, "METRICS", (*perplexity.METRICS, metric))
    scores = {"med": Score(30.0, 10, 20, 1), "law": Score(20.0, 10, 40, 1)}
    rows = perplexity.rows("slm", "finetuned", 0, 1000, scores)
    assert [row["nats_per_byte"] for row in rows] == [1.5, 0.5, 1.5]
    text = demo_page.html(dict(results=rows))
    found = [row[:2] for row in Page(text).rows if row[0] == "SLM"]
    assert found == [["SLM", "20.09"], ["SLM", "2.164"], ["SLM", "1.5000"]]
    assert '<label for="unit-nats_per_byte">nats per byte</label>' in text


def test_every_method_has_a_colour_of_its_own_on_the_page():
    rows = made_up_rows(methods=("slm", "slm_is", "mine"))
    curve = dict(method="llm", phase="pretrained", points=[dict(step=5, loss=2.0)])
    text = demo_page.html(dict(results=rows, curves=[curve]))
    style = text[text.index(":root{") : text.index("@media")]
    colours = dict(re.findall(r"--(c\d):(#\w+)", style))
    assert len(colours) == len(set(colours.values())) == 4
    assert all(f"var(--{name})" in text for name in colours)


def test_unknown_methods_appear_under_their_own_name(undrawn):
    rows = made_up_rows(methods=("slm", "slm_is", "my <method>"))
    assert "my <method>" in demo_page.table(rows)
    page = Page(demo_page.html(dict(results=rows)))
    assert sum(row[0] == "my <method>" for row in page.rows) == 6  # three tables, two phases


def test_the_page_is_self_contained_and_accessible():
    text = demo_page.html(made_up_run())
    page = check_alone(text)
    check_accessible(text)
    assert page.tags.count("figure") == 6 and page.tags.count("figcaption") == 6
    # The one address in the record stays text.
    assert {m.start() for m in re.finditer("http", text)} == {
        m.start() for m in re.finditer("https://example.org/", text)
    }


def test_a_method_is_drawn_in_its_variable():
    text = demo_page.html(dict(results=made_up_rows()))
    assert "fill: var(--c1)" in text and "fill: var(--t1)" in text  # SLM-is: dots, its name
    light = re.search(r"--c1:(#\w+)", text)[1]
    assert light == styles.style("slm_is", ())[0]
    assert "fill: var(--c0)" in text  # black too: SVG's default would stay black


def test_text_is_escaped():
    run = made_up_run()
    for key in ("title", "command"):
        run[key] = HOSTILE
    run["settings"][HOSTILE] = HOSTILE
    run["stages"][0]["title"] = HOSTILE
    run["corpora"][0]["licence"] = HOSTILE
    run["results"] = made_up_rows(methods=("slm", HOSTILE), domains=(HOSTILE, "b"))
    text = demo_page.html(run)
    page = Page(text)
    check_alone(text.replace("https://example.org/", ""))
    assert page.tags.count("script") == 1 and "\x00" not in text
    shown = HOSTILE.replace("\x00", " ")
    assert sum(shown.strip() in piece for piece in page.texts) >= 10


@pytest.mark.parametrize(
    "gone,section",
    [
        ("results", {"results", "difference"}),
        ("curves", {"curves"}),
        ("weights", {"weights", "clusters"}),
        ("models", {"models"}),
        ("stages", set()),
    ],
)
def test_a_missing_part_leaves_its_section_out(gone, section, undrawn):
    run = made_up_run()
    full = Page(demo_page.html(run)).sections()
    assert full == list(demo_page.SECTIONS)
    del run[gone]
    found = Page(demo_page.html(run)).sections()
    assert set(full) - set(found) == section


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sets(st.sampled_from(sorted(made_up_run()))), st.booleans())
def test_any_part_may_be_missing_or_empty(gone, empty):
    run = made_up_run()
    run["curves"] = [dict(curve, points=curve["points"][:4]) for curve in run["curves"]]
    for key in gone:
        if empty:
            run[key] = type(run[key])()
        else:
            del run[key]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "on_page", lambda chart: (["<svg/>"] * len(chart.panels), []))
        page = demo_page.html(run)
    assert page.lower().startswith("<!doctype html>")
    Page(page)  # its tags are closed and its references inside


def test_parts_with_missing_fields_are_shown_as_far_as_they_go():
    page = Page(
        demo_page.html(
            dict(
                weights={"med": dict(effective_fraction=0.25)},
                stages=[dict(name="only")],
                data=dict(domains={"med": dict(train=dict(tokens=51_200))}),
                curves=[
                    dict(method="slm", phase="pretrained", points=[dict(step=5, loss=2.0)]),
                    dict(method="slm", phase="pretrained", points=[]),
                ],
                results=rows_of({("slm", "finetuned", None): {"med": 4.0}}, macro=False),
            )
        )
    )
    assert ["med", "25.0%"] in page.rows and ["med, train", "51.2k"] in page.rows
    assert ["SLM", "54.60"] in page.rows and ["SLM", "2.000"] in page.rows


def test_stages_stand_together_by_the_part_before_the_slash():
    stages = [dict(title="vocabulary", seconds=5.0, reused=True)]
    stages += [dict(title=f"scan/{d}", seconds=20.0, reused=d == "med") for d in DOMAINS]
    text = demo_page.html(dict(stages=stages, seconds=41.0))
    rows = Page(text).rows
    assert rows[1:4] == [
        ["vocabulary", "", "5.0 s", "yes"],
        ["scan", "3 stages", "1 min 0 s", "1 of 3"],
        ["Total", "", "1 min 5 s", ""],
    ]
    assert ["scan/med", "20.0 s", "yes"] in rows and ["scan/news", "20.0 s", ""] in rows
    assert "they are 25.0 s of the total. This run took 41.0 s." in text
    assert text.index("width:8.3%") < text.index("width:100.0%")
    assert text.count("<details") == 1 and "All 4 stages" in text


def test_write_leaves_one_file(tmp_path, undrawn):
    path = tmp_path / "new" / "report.html"
    run = made_up_run()
    run["weights"]["med"]["top_clusters"][0]["samples"] = ["lone \ud800 surrogate"]
    demo_page.write(run, path)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_words_for_times_and_shares():
    assert [words.duration(s) for s in (1.26, 75, 7500)] == ["1.3 s", "1 min 15 s", "2 h 5 min"]
    assert [words.percent(x) for x in (0.123, 0.0042, 1e-7, 0)] == [
        "12.3%",
        "0.42%",
        "under 0.01%",
        "0%",
    ]
