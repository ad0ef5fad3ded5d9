"""Figures of importance weights: what is drawn against the numbers it was drawn from."""

import numpy as np
import pytest
from demo_fixtures import made_up_run
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from specialm.reports import weight_figures
from specialm.reports.demo_run import DemoRun


def drawn(draw):
    axis = Figure().subplots()
    draw(axis)
    return axis


def steps(axis):
    return [patch.get_data().values for patch in axis.patches if isinstance(patch, StepPatch)]


def test_every_cluster_is_drawn_by_weight_upwards_and_downwards():
    k = 1024
    rng = np.random.default_rng(5)
    generic, specialist = rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 0.05))
    weights = specialist / generic
    axis = drawn(weight_figures.draw_shares(generic, specialist, weights))
    up, down = steps(axis)
    order = np.argsort(-weights)
    np.testing.assert_allclose(up, specialist[order])
    np.testing.assert_allclose(down, -generic[order])
    # Heights on the paper are proportional to the roots of the shares.
    to_paper = axis.transData.transform
    zero = to_paper((1, 0))[1]
    heights = [to_paper((1, share))[1] - zero for share in (0.01, 0.04)]
    assert heights[1] == pytest.approx(2 * heights[0])


def test_ranks_stand_in_the_middle_of_their_bars():
    axis = drawn(weight_figures.draw_shares(*np.full((3, 60), 1 / 60)))
    assert list(axis.get_xticks()) == [0.5, 9.5, 49.5]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["1", "10", "50"]


def test_share_ticks_stand_apart():
    for most in (0.9, 0.3, 0.02):
        ticks = weight_figures._share_ticks(np.sqrt(most), 1.3 * np.sqrt(most))
        heights = np.sqrt([0, *ticks]) / (1.3 * np.sqrt(most))
        assert len(ticks) >= 2 and max(ticks) <= most
        assert np.diff(heights).min() >= weight_figures.ROOM - 1e-9


def test_repetitions_stand_from_the_most_to_the_least_drawn():
    before, after = [1.0, 16.0, 0.0, 4.0], [2.0, 4.0, 0.0, 4.0]
    bars, line = steps(drawn(weight_figures.draw_repetitions(before, after)))
    assert list(bars) == [16, 4, 1, 0] and list(line) == [4, 4, 2, 0]


def test_coverage_says_how_little_of_the_generic_text_holds_half_the_domain():
    axis = drawn(
        weight_figures.draw_coverage(*np.array([[0.1, 0.4, 0.5], [0.5, 0.4, 0.1], [5.0, 1.0, 0.2]]))
    )
    (text,) = axis.texts
    assert text.get_text() == "half of the domain in 10.0%"
    curve = axis.lines[0].get_xydata()
    np.testing.assert_allclose(curve, [(0, 0), (0.1, 0.5), (0.5, 0.9), (1, 1)])


def test_a_run_without_weights_has_no_such_figures():
    record = made_up_run()
    assert len(weight_figures.coverage(DemoRun(record)).panels) == 1
    assert weight_figures.repetition(DemoRun(record)) is None
    del record["weights"]["med"]["weights"]
    assert weight_figures.cluster_shares(DemoRun(record)) is None
