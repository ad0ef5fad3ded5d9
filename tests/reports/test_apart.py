"""Lines that would cover each other: seen side by side, with their data unchanged."""

import itertools

import matplotlib
import numpy as np
import pytest
import study_fixtures
from matplotlib.figure import Figure

from specialm.reports import apart, charts, cost_figures
from specialm.reports.study_rows import Study


def drawn_heights(axis, lines, at_M):
    """float [lines, M]: the lines' places on the paper in points, at these places across."""
    heights = []
    for line in lines:
        at_Nx2 = line.get_transform().transform(line.get_xydata()) * 72 / axis.figure.dpi
        heights.append(np.interp(at_M, at_Nx2[:, 0], at_Nx2[:, 1]))
    return np.array(heights)


def test_three_lines_on_each_other_are_seen_as_three():
    figure = Figure()
    axis = figure.subplots()
    x = np.arange(10.0)
    lines = [axis.plot(x, x, label=name)[0] for name in "abc"]
    far = axis.plot(x, x + 5, label="far")[0]
    figure.draw_without_rendering()
    before = far.get_transform().transform((1, 6))
    apart.set_apart(axis)
    heights = drawn_heights(axis, lines, np.linspace(100, 300, 5))
    np.testing.assert_allclose(np.diff(heights, axis=0), apart.UP, atol=1e-6)
    np.testing.assert_allclose(far.get_transform().transform((1, 6)), before)
    assert all((line.get_ydata() == x).all() for line in lines)


def test_points_on_each_other_stand_side_by_side_with_their_error_bars():
    figure = Figure()
    axis = figure.subplots()
    bars = [
        axis.errorbar([1.0, 2.0], [y, 1 - y], yerr=0.1, capsize=2, label=str(y))
        for y in (0.5, 0.501)
    ]
    bars.append(axis.errorbar([1.0, 2.0], [0.1, 0.2], label="far"))
    bars[0].lines[0].set_ydata([0.5, 0.9])
    bars[1].lines[0].set_ydata([0.5, 0.1])
    figure.draw_without_rendering()
    apart.set_apart(axis)
    places = [bar.lines[0].get_transform().transform((1.0, 0.5)) for bar in bars]
    step = (places[1] - places[0]) * 72 / figure.dpi
    np.testing.assert_allclose(step, (apart.ASIDE, 0), atol=1e-6)
    cap = bars[1].lines[1][0].get_transform().transform((1.0, 0.5))
    np.testing.assert_allclose(cap, places[1])


@pytest.mark.parametrize("share", [1.0, 1.0005])
def test_equal_total_costs_are_all_visible(share):
    """The base, the projected network and the mixture cost the same: one line hid two."""
    rows = [
        dict(r, **{k: v * share for k, v in slm.items()}) if r["method"] != "slm" else r
        for r in study_fixtures.rows(methods=("slm", "slm_pn", "slm_mix"), variants=False)
        for slm in [
            {
                "generic_flops": 6e6 * r["train_tokens"],
                "specialise_flops": 6e6 * 4 * r["specialist_tokens"],
            }
        ]
    ]
    chart = cost_figures.cost_by_domains(Study(rows))
    with matplotlib.rc_context(charts.STYLE):
        (figure,) = charts._panels_apart(chart)
    (axis,) = figure.axes
    lines = [line for line in axis.lines if line.get_label() in ("SLM", "SLM-pn", "SLM-mix")]
    heights = drawn_heights(axis, lines, np.linspace(60, 200, 9))
    for a, b in itertools.combinations(range(3), 2):
        assert np.abs(heights[a] - heights[b]).min() > 1.5  # points; a line is 1.3 wide


def test_groups_join_what_a_later_line_connects():
    def nearby(a, b):
        return abs(a - b) <= 1

    assert apart.groups([0, 2, 9, 1], nearby) == [[0, 1, 3]]
    assert apart.groups([0, 5, 9], nearby) == []
