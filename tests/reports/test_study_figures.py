"""A study's figures: what is drawn against the rows it was drawn from."""

import itertools
import math

import matplotlib
import numpy as np
import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st
from study_fixtures import BUDGET, SIZE

from specialm.methods import METHODS
from specialm.reports import charts, cost_figures, study_figures, study_page, styles
from specialm.reports.study_rows import Study
from specialm.reports.summary import label

ROWS = study_fixtures.rows()
STUDY = Study(ROWS)
FEW = ("slm", "slm_pn", "slm_is", "slm_nopt")
SETTINGS = study_fixtures.record()["settings"]
PLOTS = [
    function
    for _, functions in study_page.SECTIONS.values()
    for function in functions
    if function.__module__ in (study_figures.__name__, cost_figures.__name__)
]


def axes(name, rows=STUDY):
    """The panels of a figure, as in the file for a paper."""
    (plot,) = [plot for plot in PLOTS if plot.__name__ == name]
    return charts.on_paper(plot(rows)).axes


def values(
    method,
    size=SIZE,
    budget=BUDGET,
    phase="finetuned",
    domain="macro",
    variant="",
    rows=ROWS,
    field="perplexity",
):
    return np.array(
        [
            r[field]
            for r in rows
            if (
                r["method"],
                r["specialist_tokens"],
                r["train_tokens"],
                r["phase"],
                r["domain"],
                r["variant"],
            )
            == (method, size, budget, phase, domain, variant)
        ]
    )


def lines(axis):
    """{label: (x, y)} of a panel's lines, error bars without their caps."""
    found = {bar.get_label(): bar.lines[0].get_xydata().T for bar in axis.containers}
    return found | {
        line.get_label(): line.get_xydata().T
        for line in axis.lines
        if not line.get_label().startswith("_")
    }


def deviations(axis, name):
    """Half the length of a line's error bars."""
    (bar,) = [c for c in axis.containers if c.get_label() == name]
    return [np.diff(segment[:, 1])[0] / 2 for segment in bar.lines[2][0].get_segments()]


@pytest.mark.parametrize("plot", PLOTS)
def test_every_figure_has_titles_and_units_and_a_legend_outside(plot):
    chart = plot(STUDY)
    assert chart.title and len(chart.reading) > 40
    figure = charts.on_paper(chart)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1  # nothing is cut off
    for axis in figure.axes:
        assert axis.get_xlabel() and (axis.get_ylabel() or plot.__name__ == "gain_by_domain")
        assert not box.overlaps(axis.get_window_extent())
        title = axis._left_title.get_window_extent()
        assert title.x0 >= 0 and title.x1 <= figure.bbox.x1


def shown_ticks(axis):
    """The boxes of the labels that are drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    labels = [t.label1 for t in ticks if t.label1.get_visible() and t.label1.get_text()]
    return [label.get_window_extent() for label in labels]


@pytest.mark.parametrize("layout", [charts._panels_apart, lambda chart: [charts.on_paper(chart)]])
@pytest.mark.parametrize("plot", PLOTS)
def test_no_tick_touches_another(plot, layout):
    with matplotlib.rc_context(charts.STYLE):
        figures = layout(plot(STUDY))
    for figure in figures:
        figure.draw_without_rendering()
        for axis in figure.axes:
            for side, least in ((axis.xaxis, 2), (axis.yaxis, 1)):
                boxes = shown_ticks(side)
                assert len(boxes) >= least or axis.get_shared_y_axes().joined(axis, figure.axes[0])
                assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_ticks_that_stand_close_become_round_ones():
    rows = [
        dict(row, train_tokens=tokens, budget=row["train_tokens"])
        for row in study_fixtures.rows(methods=FEW, variants=False)
        for tokens in [
            {1_000_000: 3_200_000, 4_000_000: 3_490_000, 16_000_000: 3_990_000}[row["train_tokens"]]
            if row["train_tokens"]
            else 0
        ]
    ]
    _, by_tokens = axes("generic_perplexity", rows)
    labels = [t.label1.get_text() for t in by_tokens.xaxis.get_major_ticks()]
    assert len(labels) >= 2 and all(len(text.rstrip("M")) <= 3 for text in labels)
    assert {"3.2M", "3.49M", "3.99M"}.isdisjoint(labels)


@pytest.mark.parametrize("plot", PLOTS)
def test_without_rows_there_is_no_figure(plot):
    assert plot([]) is None


def test_generic_perplexity_stands_at_cost_and_at_tokens():
    by_flops, by_tokens = axes("generic_perplexity")
    y = [values("slm_pn", 0, b, "pretrained", "generic") for b in study_fixtures.BUDGETS]
    x, found = lines(by_flops)["SLM-pn"]
    np.testing.assert_allclose(x, 10e6 * np.array(study_fixtures.BUDGETS))
    np.testing.assert_allclose(found, [v.mean() for v in y])
    np.testing.assert_allclose(deviations(by_flops, "SLM-pn"), [v.std(ddof=1) for v in y])
    np.testing.assert_allclose(lines(by_tokens)["SLM-pn"][0], study_fixtures.BUDGETS)
    assert by_flops.get_xscale() == by_tokens.get_xscale() == by_flops.get_yscale() == "log"
    # A method that pretrains for each domain stands at one domain's pretraining.
    np.testing.assert_allclose(lines(by_flops)["SLM-is"][0], 6e6 * np.array(study_fixtures.BUDGETS))


def test_macro_perplexity_before_and_after_fine_tuning():
    (axis,) = axes("before_fine_tuning")
    np.testing.assert_allclose(
        lines(axis)["LLM"][1],
        [values("llm", 0, b, "pretrained").mean() for b in study_fixtures.BUDGETS],
    )
    panels = axes("after_fine_tuning")
    assert len(panels) == len(study_fixtures.SIZES)
    for axis, size in zip(panels, study_fixtures.SIZES, strict=True):
        for method in ("slm", "slm_is", "llm", "slm_d"):
            x, y = lines(axis)[label(method)]
            np.testing.assert_allclose(
                y, [values(method, size, b).mean() for b in study_fixtures.BUDGETS]
            )
            rate = study_fixtures.RATE.get(method, 6e6) + 24e6 * (method == "slm_d")  # its teacher
            np.testing.assert_allclose(x, rate * np.array(study_fixtures.BUDGETS))


def test_the_unpretrained_model_is_a_line_or_a_number():
    far, _, near = axes("after_fine_tuning")
    mean = values("slm_nopt", SIZE, 0).mean()
    assert f"SLM-nopt, off the scale: {mean:.1f}" in far.get_title(loc="left")
    assert "SLM-nopt" not in lines(far)
    mean = values("slm_nopt", max(study_fixtures.SIZES), 0).mean()
    np.testing.assert_allclose(lines(near)["SLM-nopt"][1], mean)


def test_gain_by_set_size_is_paired_by_seed():
    left, right = axes("against_set_size")
    gains = [100 * (1 - values("slm_mix", s) / values("slm", s)) for s in study_fixtures.SIZES]
    np.testing.assert_allclose(lines(right)["SLM-mix"][1], [g.mean() for g in gains])
    np.testing.assert_allclose(deviations(right, "SLM-mix"), [g.std(ddof=1) for g in gains])
    assert list(lines(left)["SLM"][0]) == list(study_fixtures.SIZES)
    assert "SLM-nopt" not in lines(left) and "SLM" not in lines(right)


def test_total_cost_is_generic_plus_n_times_special():
    panels = axes("total_cost")
    for axis, n in zip(panels, (1, 3, 10, 30), strict=True):
        for method in ("slm", "slm_is", "slm_d"):
            once, each = (
                np.array([values(method, SIZE, b, field=f).mean() for b in study_fixtures.BUDGETS])
                for f in ("generic_flops", "specialise_flops")
            )
            np.testing.assert_allclose(lines(axis)[label(method)][0], once + n * each)


def test_a_teacher_is_in_the_cost_even_where_the_pretrained_student_has_none():
    student = 6e6 * BUDGET
    rows = [
        dict(r, generic_flops=student) if r["phase"] == "pretrained" else r
        for r in ROWS
        if r["method"] == "slm_d" and r["train_tokens"] == BUDGET
    ]
    for name, cost in (
        ("before_fine_tuning", student),
        ("after_fine_tuning", student + 24e6 * BUDGET),
    ):
        assert lines(axes(name, rows)[0])["SLM-d"][0] == pytest.approx([cost])


@pytest.mark.parametrize("times", [1.0, 12.0])
def test_the_crossover_is_marked_where_the_curves_cross(times):
    rows = [
        dict(r, generic_flops=times * r["generic_flops"]) if r["method"] == "slm_pn" else r
        for r in ROWS
    ]
    (axis,) = axes("cost_by_domains", rows)
    domains, sampled = lines(axis)["SLM-is"]
    first = int(domains[np.argmax(sampled > lines(axis)["SLM-pn"][1])])
    (text,) = axis.texts
    assert text.get_text().startswith(f"from {first} domains on")
    assert any(set(line.get_xdata()) == {first} for line in axis.lines)
    assert lines(axis)["SLM-pn"][1][4] == pytest.approx(times * 10e6 * BUDGET + 5 * 10e6 * 4 * SIZE)


def test_gain_by_domain_shows_every_seed():
    panels = axes("gain_by_domain")
    assert len(panels) == len(study_fixtures.SIZES)
    axis = panels[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == list(study_fixtures.DOMAINS)
    for domain in study_fixtures.DOMAINS:
        gains = 100 * (1 - values("soup", domain=domain) / values("slm", domain=domain))
        assert any(
            len(line.get_xdata()) == 3 and np.allclose(line.get_xdata(), gains)
            for line in axis.lines
        )
        assert any(
            line.get_label() == "Soup-of-Experts" and np.allclose(line.get_xdata(), gains.mean())
            for line in axis.lines
        )


def test_the_number_of_clusters_has_the_main_arm_at_its_setting():
    clusters, experts = axes("number_of_clusters", Study(ROWS, SETTINGS))
    x, y = lines(clusters)["SLM-is"]
    assert list(x) == [4, 16, 32, 64]
    means = [
        values("slm_is", variant=f"clustering.k={k}" if k != 32 else "").mean()
        for k in x
        for k in [int(k)]
    ]
    np.testing.assert_allclose(y, means)
    before = [c.lines[0] for c in clusters.containers if c.get_label().startswith("_")]
    assert len(before) == 1 and before[0].get_linestyle() == "--"
    np.testing.assert_allclose(
        before[0].get_ydata()[2], values("slm_is", phase="pretrained").mean()
    )
    assert list(lines(experts)["SLM-pn"][0]) == list(lines(experts)["SLM-mix"][0]) == [4, 8, 16]
    without, _ = axes("number_of_clusters")
    assert list(lines(without)["SLM-is"][0]) == [4, 16, 64]
    plain = Study(study_fixtures.rows(variants=False), SETTINGS)
    assert study_figures.number_of_clusters(plain) is None


def test_a_method_looks_the_same_in_every_figure():
    for name in ("after_fine_tuning", "against_set_size"):
        for axis in axes(name):
            for bar in axis.containers:
                line = bar.lines[0]
                name = next((m for m in METHODS if label(m) == bar.get_label()), None)
                if name:
                    assert (line.get_color(), line.get_marker()) == styles.style(name, ())


@pytest.mark.parametrize(
    "part",
    [
        dict(seeds=(0,)),
        dict(budgets=(BUDGET,)),
        dict(sizes=(SIZE,)),
        dict(domains=("med",)),
        dict(methods=("slm_is",)),
        dict(methods=("mine",)),
        dict(methods=("slm_nopt",)),
        dict(
            seeds=(0,), budgets=(BUDGET,), sizes=(SIZE,), domains=("med",), methods=("slm", "llm")
        ),
    ],
)
def test_a_study_of_one_has_figures(part):
    rows = study_fixtures.rows(**{"methods": FEW, **part})
    study = Study(rows, SETTINGS)
    found = {plot.__name__: plot(study) for plot in PLOTS}
    drawn = {name: chart for name, chart in found.items() if chart}
    for chart in drawn.values():
        for axis in charts.on_paper(chart).axes:
            assert axis.has_data()
            assert all(math.isfinite(limit) for limit in (*axis.get_xlim(), *axis.get_ylim()))
    assert ("before_fine_tuning" in drawn) == (part.get("methods") != ("slm_nopt",))


@settings(max_examples=6)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.2, 0.8]))
def test_any_part_of_a_study_has_figures(seed, share):
    rng = np.random.default_rng(seed)
    gone = {f for f in ("variant", "specialise_flops", "generic_flops") if rng.random() < 0.3}
    rows = [
        {k: v for k, v in r.items() if k not in gone}
        for r in ROWS
        if r["method"] in FEW and rng.random() < share
    ]
    study = Study(rows, SETTINGS)
    for chart in filter(None, (plot(study) for plot in PLOTS)):
        assert all(axis.has_data() for axis in charts.on_paper(chart).axes)
