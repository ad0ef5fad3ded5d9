"""A demo's figures: what is drawn against the rows and curves it was drawn from."""

import itertools

import matplotlib
import numpy as np
import pytest
from demo_fixtures import made_up_rows, made_up_run
from matplotlib.figure import Figure

from specialm.reports import charts, demo_figures, summary
from specialm.reports.demo_run import DemoRun

RUN = DemoRun(made_up_run())


def drawn(panel):
    axis = Figure().subplots()
    panel.draw(axis)
    return axis


def test_a_panel_for_each_domain_with_ring_dot_and_deviation():
    chart = demo_figures.before_and_after(RUN)
    assert [panel.title for panel in chart.panels] == [*RUN.summary.domains, "macro average"]
    axis = drawn(chart.panels[0])
    assert [t.get_text() for t in axis.get_yticklabels()] == ["SLM", "SLM-is"]
    found = [bar.lines[0].get_xdata()[0] for bar in axis.containers]
    wanted = [
        RUN.summary.cell(m, "med", phase)
        for m in ("slm", "slm_is")
        for phase in ("pretrained", "finetuned")
    ]
    np.testing.assert_allclose(found, [cell.mean for cell in wanted])
    bars = [np.diff(bar.lines[2][0].get_segments()[0][:, 0])[0] / 2 for bar in axis.containers]
    np.testing.assert_allclose(bars, [cell.sd for cell in wanted])
    texts = [text.get_text() for text in axis.texts]
    assert texts == [summary.spread(wanted[1]), summary.spread(wanted[3])]


def test_differences_show_every_seed_and_their_mean():
    chart = demo_figures.differences(RUN)
    assert [panel.title for panel in chart.panels] == [
        "After fine-tuning: macro",
        "Before fine-tuning: macro",
    ]
    axis = drawn(chart.panels[0])
    change = RUN.summary.difference("slm_is", "macro", "finetuned")
    seeds, mean = axis.lines[:2]
    np.testing.assert_allclose(seeds.get_xdata(), list(change.values()))
    np.testing.assert_allclose(mean.get_xdata(), np.mean(list(change.values())))


def test_one_method_has_no_differences():
    assert demo_figures.differences(DemoRun(dict(results=made_up_rows(methods=("slm",))))) is None


def test_curves_stand_in_the_panels_of_their_domains():
    chart = demo_figures.pretraining(RUN)
    assert [panel.title for panel in chart.panels] == ["med", "books"]
    axis = drawn(chart.panels[0])
    assert [line.get_label() for line in axis.lines] == ["SLM", "SLM-is"]  # the shared one first
    x, y = axis.lines[0].get_data()
    assert len(x) == demo_figures.MOST_POINTS and x[-1] == 29_900
    assert axis.get_ylim()[1] < 3 + 4 / 5  # the first steps run off the top


@pytest.mark.parametrize("loss_N", [[2.0], [2.0, 2.0], [9.0, 5.0, 4.0, 3.5]])
def test_curves_of_few_points_have_a_mark_at_the_lowest(loss_N):
    points = [dict(step=i, loss=loss, split="valid") for i, loss in enumerate(loss_N)]
    record = dict(curves=[dict(method="a", domain="d", phase="finetuned", points=points)])
    axis = drawn(demo_figures.fine_tuning(DemoRun(record)).panels[0])
    (line,) = axis.lines
    assert list(line.get_ydata()) == loss_N and line.get_markevery() == [np.argmin(loss_N)]
    assert np.isfinite([*axis.get_xlim(), *axis.get_ylim()]).all()


def test_long_curves_are_averaged_in_buckets():
    loss_N = np.random.default_rng(11).normal(3, 1, 4000)
    x_P, loss_P = demo_figures.thin(np.arange(4000), loss_N)
    assert len(x_P) == 80 and x_P[-1] == 3999
    np.testing.assert_allclose(loss_P, loss_N.reshape(80, 50).mean(1))


@pytest.mark.parametrize("plot", [demo_figures.before_and_after, demo_figures.pretraining])
def test_nothing_touches_and_nothing_is_cut_off(plot):
    long = "a method with a name that is much too long"
    record = made_up_run() | dict(results=made_up_rows(methods=("slm", "slm_is", "soup", long)))
    with matplotlib.rc_context(charts.STYLE):
        figures = charts._panels_apart(plot(DemoRun(record)))
    for figure in figures:
        figure.draw_without_rendering()
        (axis,) = figure.axes
        low, high = axis.get_xlim()
        ticks = [t for t in axis.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
        shown = [t.label1 for t in ticks if t.label1.get_visible()]
        boxes = [text.get_window_extent() for text in (*shown, *axis.texts)]
        boxes += [t.label1.get_window_extent() for t in axis.yaxis.get_major_ticks()]
        assert len(shown) >= 2
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
