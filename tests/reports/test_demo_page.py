"""The demo's page: its tables against NumPy, and in one piece with any part of the record gone."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from demo_fixtures import DOMAINS, HOSTILE, expected, made_up_rows, made_up_run, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.evaluation import perplexity
from specialm.reports import demo_page, markup, summary
from specialm.training.scoring import Score

VOID = {"meta", "input"}


class Page(HTMLParser):
    """The page's tags, attributes, texts and table rows; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts, self.rows = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)
        if "tr" in self.open and self.rows[-1]:
            self.rows[-1][-1] += text

    def ids(self):
        return {value for name, value in self.attributes if name == "id"}


def test_page_table_holds_both_units_and_the_macro_column():
    rows = made_up_rows()
    page = Page(demo_page.html(dict(results=rows)))
    head = next(i for i, row in enumerate(page.rows) if "macro average" in row)
    assert page.rows[head] == ["", *DOMAINS, "macro average"]
    after = page.rows[head + 1 :]
    assert after[0] == ["After fine-tuning"]
    for row, method in zip(after[1:3], ("slm", "slm_is"), strict=True):
        assert row[0] == summary.label(method)
        for domain, text in zip((*DOMAINS, "macro"), row[1:], strict=True):
            figures = [float(x) for x in re.findall(r"[\d.]+", text)]
            perplexity = expected(
                rows, "perplexity", method=method, domain=domain, phase="finetuned"
            )
            bits = expected(rows, "bits_per_byte", method=method, domain=domain, phase="finetuned")
            np.testing.assert_allclose(figures[:2], perplexity, atol=0.0501)
            np.testing.assert_allclose(figures[2:], bits, atol=0.000501)


def test_a_new_metric_is_in_rows_and_on_the_page(monkeypatch):
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
    assert ["SLM", "20.09 2.164 1.5000"] == next(
        row[:2] for row in Page(text).rows if row[0] == "SLM"
    )
    assert '<label for="unit-nats_per_byte">nats per byte</label>' in text


def test_every_method_has_a_colour_of_its_own_on_the_page():
    rows = made_up_rows(methods=("slm", "slm_is", "mine"))
    curve = dict(method="llm", phase="pretrained", points=[dict(step=5, loss=2.0)])
    text = demo_page.html(dict(results=rows, curves=[curve]))
    style = text[text.index(".m0{") :].partition("@media")[0]
    colours = dict(re.findall(r"\.(m\d)\{--c:(#\w+)", style))
    assert len(colours) == len(set(colours.values())) == 4
    for name in ("SLM", "SLM-is", "mine", "LLM"):
        assert re.search(rf'class="[\w ]*m\d"[^>]*>{name}<', text)


def test_unknown_methods_appear_under_their_own_name():
    rows = made_up_rows(methods=("slm", "slm_is", "my <method>"))
    assert "my <method>" in demo_page.table(rows)
    page = Page(demo_page.html(dict(results=rows)))
    assert sum(row[0] == "my <method>" for row in page.rows) == 4  # two tables, two phases


def test_the_page_is_self_contained():
    text = demo_page.html(made_up_run())
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "data", "action", "poster")
        assert not name.startswith("on")
        assert "http" not in (value or "")
        if name in ("href", "xlink:href"):
            assert value.startswith("#") and value[1:] in page.ids()
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    # The one address in the record stays text.
    assert {m.start() for m in re.finditer("http", text)} == {
        m.start() for m in re.finditer("https://example.org/", text)
    }


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
def test_a_missing_part_leaves_its_section_out(gone, section):
    run = made_up_run()
    full = Page(demo_page.html(run)).ids()
    assert {
        "results",
        "difference",
        "curves",
        "weights",
        "clusters",
        "models",
        "data",
        "run",
    } <= full
    del run[gone]
    found = Page(demo_page.html(run)).ids()
    assert {i for i in full - found if not i.startswith("unit-")} == section


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sets(st.sampled_from(sorted(made_up_run()))), st.booleans())
def test_any_part_may_be_missing_or_empty(gone, empty):
    run = made_up_run()
    for key in gone:
        if empty:
            run[key] = type(run[key])()
        else:
            del run[key]
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
    assert ["SLM", "54.60 2.000"] in page.rows


def test_stages_stand_together_by_the_part_before_the_slash():
    stages = [dict(title="vocabulary", seconds=5.0, reused=True)]
    stages += [dict(title=f"scan/{d}", seconds=20.0, reused=d == "med") for d in DOMAINS]
    text = demo_page.html(dict(stages=stages, seconds=41.0))
    rows = [[" ".join(piece.split()) for piece in row] for row in Page(text).rows]
    assert rows[:3] == [
        ["vocabulary reused", "5.0 s", ""],
        ["scan 1 reused3 stages", "1 min 0 s", ""],
        ["Total", "1 min 5 s", ""],
    ]
    assert ["scan/med", "20.0 s", "yes"] in rows and ["scan/news", "20.0 s", ""] in rows
    assert "they are 25.0 s of the total. This run took 41.0 s." in text
    assert text.index("width:8.3%") < text.index("width:100.0%")


def test_write_leaves_one_file(tmp_path):
    path = tmp_path / "new" / "report.html"
    run = made_up_run()
    run["weights"]["med"]["top_clusters"][0]["samples"] = ["lone \ud800 surrogate"]
    demo_page.write(run, path)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_words_for_times_and_shares():
    assert [markup.duration(s) for s in (1.26, 75, 7500)] == ["1.3 s", "1 min 15 s", "2 h 5 min"]
    assert [markup.percent(x) for x in (0.123, 0.0042, 1e-7, 0)] == [
        "12.3%",
        "0.42%",
        "under 0.01%",
        "0%",
    ]
