"""A study's figures: what is drawn against the rows it was drawn from."""

import importlib
import math
import sys

import numpy as np
import pytest
import study_fixtures
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.reports import figures
from specialm.reports.study_rows import Study
from specialm.reports.summary import METHODS, label

BUDGET, SIZE = max(study_fixtures.BUDGETS), min(study_fixtures.SIZES)
ROWS = study_fixtures.rows()
STUDY = Study(ROWS)
FEW = ("slm", "slm_pn", "slm_is", "slm_nopt")
SETTINGS = study_fixtures.record()["settings"]
PLOTS = (
    figures.generic_perplexity,
    figures.before_fine_tuning,
    figures.after_fine_tuning,
    figures.against_set_size,
    figures.total_cost,
    figures.cost_by_domains,
    figures.gain_by_domain,
    figures.number_of_clusters,
)


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
    figure = plot(STUDY)
    assert figure.get_suptitle()
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1  # nothing is cut off
    for axis in figure.axes:
        assert axis.get_xlabel()
        assert not box.overlaps(axis.get_window_extent())
        low, high = axis.get_xlim()
        ticks = [t for t in axis.get_xticks() if low <= t <= high]
        assert len(ticks) >= 2 and figure.axes[0].get_ylabel()
    title = figure._suptitle.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= figure.bbox.x1


@pytest.mark.parametrize("plot", PLOTS)
def test_without_rows_there_is_no_figure(plot):
    assert plot([]) is None


def test_generic_perplexity_stands_at_cost_and_at_tokens():
    by_flops, by_tokens = figures.generic_perplexity(STUDY).axes
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
    (axis,) = figures.before_fine_tuning(STUDY).axes
    np.testing.assert_allclose(
        lines(axis)["LLM"][1],
        [values("llm", 0, b, "pretrained").mean() for b in study_fixtures.BUDGETS],
    )
    panels = figures.after_fine_tuning(STUDY).axes
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
    far, _, near = figures.after_fine_tuning(STUDY).axes
    mean = values("slm_nopt", SIZE, 0).mean()
    assert f"SLM-nopt, off the scale: {mean:.1f}" in far.get_title()
    assert "SLM-nopt" not in lines(far)
    mean = values("slm_nopt", max(study_fixtures.SIZES), 0).mean()
    np.testing.assert_allclose(lines(near)["SLM-nopt"][1], mean)


def test_gain_by_set_size_is_paired_by_seed():
    left, right = figures.against_set_size(STUDY).axes
    gains = [100 * (1 - values("slm_mix", s) / values("slm", s)) for s in study_fixtures.SIZES]
    np.testing.assert_allclose(lines(right)["SLM-mix"][1], [g.mean() for g in gains])
    np.testing.assert_allclose(deviations(right, "SLM-mix"), [g.std(ddof=1) for g in gains])
    assert list(lines(left)["SLM"][0]) == list(study_fixtures.SIZES)
    assert "SLM-nopt" not in lines(left) and "SLM" not in lines(right)


def test_total_cost_is_generic_plus_n_times_special():
    panels = figures.total_cost(STUDY).axes
    for axis, n in zip(panels, (1, 5, 20), strict=True):
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
    for plot, cost in (
        (figures.before_fine_tuning, student),
        (figures.after_fine_tuning, student + 24e6 * BUDGET),
    ):
        assert lines(plot(rows).axes[0])["SLM-d"][0] == pytest.approx([cost])


@pytest.mark.parametrize("times", [1.0, 12.0])
def test_the_crossover_is_marked_where_the_curves_cross(times):
    rows = [
        dict(r, generic_flops=times * r["generic_flops"]) if r["method"] == "slm_pn" else r
        for r in ROWS
    ]
    (axis,) = figures.cost_by_domains(rows).axes
    domains, sampled = lines(axis)["SLM-is"]
    first = int(domains[np.argmax(sampled > lines(axis)["SLM-pn"][1])])
    (text,) = axis.texts
    assert text.get_text().startswith(f"from {first} domains on")
    assert any(set(line.get_xdata()) == {first} for line in axis.lines)
    assert lines(axis)["SLM-pn"][1][4] == pytest.approx(times * 10e6 * BUDGET + 5 * 10e6 * 4 * SIZE)


def test_gain_by_domain_shows_every_seed():
    figure = figures.gain_by_domain(STUDY)
    assert len(figure.axes) == len(study_fixtures.SIZES)
    axis = figure.axes[0]
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
    clusters, experts = figures.number_of_clusters(STUDY, SETTINGS).axes
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
    without, _ = figures.number_of_clusters(STUDY).axes
    assert list(lines(without)["SLM-is"][0]) == [4, 16, 64]
    assert figures.number_of_clusters(study_fixtures.rows(variants=False), SETTINGS) is None


def test_every_known_method_has_its_own_colour_and_marker():
    assert set(figures.STYLES) == set(METHODS)
    styles = [*figures.STYLES.values(), *figures.OTHERS]
    assert len({colour for colour, _ in styles}) == len({marker for _, marker in styles}) == 16
    assert figures.style("slm", ["mine"]) == figures.STYLES["slm"]
    unknown = [figures.style(m, ["slm", "b", "a"]) for m in ("a", "b")]
    assert unknown == list(figures.OTHERS[:2])


def test_a_method_looks_the_same_in_every_figure():
    for plot in (figures.after_fine_tuning, figures.against_set_size):
        for axis in plot(STUDY).axes:
            for bar in axis.containers:
                line = bar.lines[0]
                name = next((m for m in METHODS if label(m) == bar.get_label()), None)
                if name:
                    assert (line.get_color(), line.get_marker()) == figures.STYLES[name]


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
    drawn = figures.all_of(rows, SETTINGS)
    for figure in drawn.values():
        for axis in figure.axes:
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
    for figure in figures.all_of(rows, SETTINGS).values():
        assert all(axis.has_data() for axis in figure.axes)


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "specialm.reports.figures")
    with pytest.raises(UserError, match=r"pip install 'specialm\[report\]'"):
        importlib.import_module("specialm.reports.figures")
