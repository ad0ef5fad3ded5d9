"""Charts: what is drawn against the numbers it was drawn from."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.reports import charts, summary


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


def test_repetitions_stand_from_the_most_to_the_least_drawn():
    before, after = [1.0, 16.0, 0.0, 4.0], [2.0, 4.0, 0.0, 4.0]
    svg = charts.repetitions(before, after, "d")
    bars, line = (
        [charts.BOTTOM - float(v) for v in re.findall(r"V([\d.]+)H", path)]
        for path in re.findall(r'<path class="(?:fill|curve)[^"]*" d="([^"]+)"', svg)
    )
    unit = (charts.BOTTOM - charts.TOP) / 4
    np.testing.assert_allclose(bars, unit * np.sqrt([16, 4, 1, 0]), atol=0.1)
    np.testing.assert_allclose(line, unit * np.sqrt([4, 4, 2, 0]), atol=0.1)


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
