"""The report: figures against NumPy, words against figures, and a page that stands alone.

Every record here is made up to exercise the page; none is a result.
"""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.evaluation import perplexity
from specialm.reports import charts, demo_page, markup, summary
from specialm.training.scoring import Score

DOMAINS = ("med", "books", "news")
HOSTILE = "<script>alert('x')</script> & \"quoted\" https://example.org/\x00"
VOID = {"meta", "input"}


def rows_of(losses, macro=True, **common):
    """Rows of {(method, phase, seed): {domain: nll}} with macro rows as the papers define them."""
    rows = []
    for (method, phase, seed), by_domain in losses.items():
        averaged = dict(by_domain)
        if macro:
            averaged["macro"] = float(np.mean(list(by_domain.values())))
        for domain, nll in averaged.items():
            rows.append(
                dict(
                    method=method,
                    domain=domain,
                    phase=phase,
                    seed=seed,
                    train_tokens=1_000_000,
                    nll_per_token=nll,
                    perplexity=math.exp(nll),
                    bits_per_byte=nll / 2.0,
                    **common,
                )
            )
    return rows


def made_up_rows(methods=("slm", "slm_is"), gain=0.3, seeds=(0, 1, 2), domains=DOMAINS, noise=0.01):
    """Made-up rows: every method after the first is `gain` nats below it."""
    rng = np.random.default_rng(7)
    return rows_of(
        {
            (method, phase, seed): {
                d: 4.0 + 0.3 * i + start - (gain if m else 0.0) + float(rng.normal(0, noise))
                for i, d in enumerate(domains)
            }
            for m, method in enumerate(methods)
            for phase, start in (("pretrained", 0.5), ("finetuned", 0.0))
            for seed in seeds
        }
    )


def made_up_run(k=16):
    rng = np.random.default_rng(3)
    generic, specialist = rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 0.2))
    weights = specialist / generic
    sizes = dict(windows=900, tokens=100_000, documents=80, bytes=300_000)
    points = [
        dict(step=s, tokens=100 * s, loss=3 + 4 / s, split=split)
        for s in range(1, 300)
        for split in ("train", "valid")
    ]
    return dict(
        title="made up",
        created="2025-01-02T03:04:05",
        command="specialm demo\n  --x=1",
        versions={"jax": "0.0"},
        settings={"data.context": 128, "data.fields": ["a", "b"]},
        machine=dict(cpu="a cpu", cores=2, memory_gb=8, platform="linux"),
        stages=[
            dict(name="a", title="First", seconds=75.0, reused=True, detail="d"),
            dict(name="b", title="Second", seconds=10.0, reused=False, detail=""),
        ],
        corpora=[dict(name="sotu", role="generic", documents=2, bytes=10, licence="public domain")],
        data=dict(generic=sizes, domains={d: dict(train=sizes, heldout=sizes) for d in DOMAINS}),
        weights={
            "med": dict(
                generic_histogram=generic.tolist(),
                specialist_histogram=specialist.tolist(),
                weights=weights.tolist(),
                effective_sample_size=1234.5,
                effective_fraction=0.05,
                mean_repetitions=0.5,
                max_repetitions=40.0,
                planned_windows=5000,
                entropy=2.0,
                top_fraction=0.3,
                top_clusters=[
                    dict(
                        cluster=c,
                        generic_probability=0.01,
                        specialist_probability=0.2,
                        weight=20.0,
                        samples=[HOSTILE, "word " * 200],
                    )
                    for c in range(5)
                ],
            )
        },
        curves=[
            dict(method=m, domain=d, seed=0, phase=phase, points=points)
            for m, d in (("slm", None), ("slm_is", "med"), ("slm_is", "books"))
            for phase in ("pretrained", "finetuned")
        ],
        models={
            "slm": dict(
                params=340_000,
                flops_per_token=2e6,
                tokens=6_000_000,
                tokens_per_parameter=17.6,
                layers=4,
            )
        },
        results=made_up_rows(),
    )


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


def expected(rows, field, **where):
    """Mean and sample standard deviation of a field, straight from the rows."""
    values = [r[field] for r in rows if all(r[k] == v for k, v in where.items())]
    return np.mean(values), np.std(values, ddof=1)


def test_plain_table_holds_mean_and_deviation_of_the_rows():
    rows = made_up_rows()
    lines = demo_page.table(rows).splitlines()
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
    assert text.replace("-", "−") in demo_page.table(rows)


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


def test_a_later_row_replaces_an_earlier_one_and_not_finite_ones_are_left_out():
    rows = made_up_rows(seeds=(0,))
    changed = dict(rows[0], perplexity=123.4)
    cell = summary.Summary([*rows, changed]).cell(
        *(changed[k] for k in ("method", "domain", "phase"))
    )
    assert (cell.mean, cell.sd, cell.seeds) == (123.4, None, 1)
    lost = dict(rows[0], perplexity=float("nan"))
    assert summary.Summary([*rows, lost]).cell("slm", "med", "pretrained") is None
    assert "–" in demo_page.table([*rows, lost])


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


def test_histogram_draws_every_cluster_by_weight():
    k = 1024
    rng = np.random.default_rng(5)
    generic, specialist = rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 0.05))
    svg = charts.histograms(generic, specialist, specialist / generic, "d")
    paths = re.findall(r'class="fill (\w+)" d="M40,([\d.]+)((?:V[\d.]+H[\d.]+)+)V', svg)
    assert [name for name, _, _ in paths] == ["specialist", "generic"]
    order = np.argsort(-specialist / generic)
    for (_, middle, bars), shares in zip(paths, (specialist, generic), strict=True):
        heights = np.array([float(v) for v in re.findall(r"V([\d.]+)", bars)]) - float(middle)
        assert len(heights) == k
        roots = np.sqrt(shares[order])
        # Heights are proportional to the roots of the shares, to a tenth of a unit.
        np.testing.assert_allclose(
            np.abs(heights), roots * np.abs(heights).max() / roots.max(), atol=0.2
        )


def test_coverage_says_how_little_of_the_generic_text_holds_half_the_domain():
    svg = charts.coverage([0.1, 0.4, 0.5], [0.5, 0.4, 0.1], [5.0, 1.0, 0.2], "d")
    assert "half of the domain in 10.0%" in svg


def test_a_dot_stands_at_the_logarithm_of_its_perplexity():
    rows = [
        (name, "m0", None, summary.Cell(value, None, 1))
        for name, value in (("a", 10.0), ("b", 100.0), ("c", 1000.0))
    ]
    at = [float(x) for x in re.findall(r'class="dot m0" cx="([\d.]+)"', charts.dots(rows, "d"))]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.11)


@pytest.mark.parametrize("loss_N", [[2.0], [2.0, 2.0], [9.0, 5.0, 4.0, 3.5]])
def test_curves_of_few_points(loss_N):
    svg = charts.curves([("a", "m0", range(len(loss_N)), loss_N)], "d", "step", best=True)
    assert "nan" not in svg and svg.count("<polyline") == 1


def test_long_curves_are_averaged_in_buckets():
    loss_N = np.random.default_rng(11).normal(3, 1, 4000)
    x_P, loss_P = charts._thin(np.arange(4000), loss_N, 80)
    assert len(x_P) == 80 and x_P[-1] == 3999
    np.testing.assert_allclose(loss_P, loss_N.reshape(80, 50).mean(1))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 4))
def test_ticks_are_round_enough_and_inside(low, span, least):
    ticks = charts._ticks(low, low + span, least)
    assert least <= len(ticks) <= 3 * least + 2
    assert all(low - 1e-6 * span <= t <= low + 1.000001 * span for t in ticks)
    step = ticks[1] - ticks[0]
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-6), 3) in (1, 2, 5)


def test_labels_are_pushed_apart():
    assert charts._apart([10, 11, 50], 13, 0, 100) == [10, 23, 50]
    assert charts._apart([95, 99], 13, 0, 100) == [87, 100]


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


def test_words_for_times_and_shares():
    assert [markup.duration(s) for s in (1.26, 75, 7500)] == ["1.3 s", "1 min 15 s", "2 h 5 min"]
    assert [markup.percent(x) for x in (0.123, 0.0042, 1e-7, 0)] == [
        "12.3%",
        "0.42%",
        "under 0.01%",
        "0%",
    ]
