"""Histograms that are aimed at, against sums by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.clustering import histograms, levels, weights
from specialm.clustering.histograms import Aim
from specialm.common.errors import UserError

FULL_4 = np.array([10, 10, 10, 10])


def of(aim, generic, specialist):
    return aim.of(np.array(generic), np.array(specialist))


def test_as_counted_nothing_changes():
    counts = np.array([3, 0, 1, 0])
    assert Aim().of(FULL_4, counts) is counts


def test_flat_clusters_back_off_to_the_generic_text():
    """(n + s g) / (n + s in all), s = 2: (3 + 0.2) / 6, (1 + 0.8) / 6, (0 + 1) / 6."""
    aimed = of(Aim("backoff", 2.0), [10, 40, 50], [3, 1, 0])
    assert aimed.tolist() == pytest.approx([3.2 / 6, 1.8 / 6, 1 / 6])


def test_a_tree_backs_off_node_by_node():
    """Branching (2, 2), s = 2. Of the root: 4 windows left, none right, so (4 + 1) / 6 and 1 / 6.
    Left node: (4 + 1) / 6 and (0 + 1) / 6; right node, without windows: as the generic text.
    """
    aimed = of(Aim("backoff", 2.0, (2, 2)), [10, 10, 5, 15], [4, 0, 0, 0])
    left, right = (4 + 2 * 20 / 40) / 6, (0 + 2 * 20 / 40) / 6
    assert aimed.tolist() == pytest.approx([left * 5 / 6, left * 1 / 6, right * 0.25, right * 0.75])


def test_windows_without_a_counterpart_stand_for_their_siblings():
    """The right node's 6 windows are all in a leaf without generic ones: its sibling gets them."""
    aimed = of(Aim("backoff", 1e-9, (2, 2)), [10, 10, 20, 0], [2, 0, 0, 6])
    assert aimed.tolist() == pytest.approx([0.25, 0, 0.75, 0], abs=1e-8)
    # A node without any generic window leaves them to the other nodes.
    aimed = of(Aim("backoff", 1e-9, (2, 2)), [10, 10, 0, 0], [1, 1, 0, 6])
    assert aimed.tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=1e-8)


@given(
    st.lists(st.integers(0, 9), min_size=12, max_size=12).filter(any),
    st.lists(st.integers(0, 9), min_size=12, max_size=12).filter(any),
    st.floats(1e-3, 1e3),
)
@settings(deadline=None)
def test_backing_off_is_a_distribution_between_counts_and_generic_text(generic, specialist, pseudo):
    branching = (3, 2, 2)
    aimed = of(Aim("backoff", pseudo, branching), generic, specialist)
    assert aimed.sum() == pytest.approx(1) and (aimed >= 0).all()
    assert (aimed[np.array(generic) == 0] == 0).all()
    assert (aimed[np.array(generic) > 0] > 0).all()
    much = of(Aim("backoff", 1e12, branching), generic, specialist)
    assert much == pytest.approx(np.array(generic) / sum(generic), abs=1e-8)
    full = of(Aim("backoff", 1e-12, branching), np.ones(12), specialist)
    of_nodes = [
        np.bincount(levels.ancestors(np.arange(12), branching, level), full) for level in (1, 2, 3)
    ]
    counts = [
        np.bincount(levels.ancestors(np.arange(12), branching, level), specialist)
        for level in (1, 2, 3)
    ]
    for made, count in zip(of_nodes, counts, strict=True):
        assert made == pytest.approx(count / sum(specialist), abs=1e-9)


def test_targets_are_read_and_refused():
    found = histograms.check_targets(("med=3", "books"), ["med", "books", "law"])
    assert found == {"med": 0.75, "books": 0.25}
    assert histograms.check_targets((), []) == {}
    for wrong in ("med=0", "med=x", "med=-1", "med=inf"):
        with pytest.raises(UserError, match=rf"clustering.targets='{wrong}': must be NAME or"):
            histograms.check_targets((wrong,), ["med"])
    with pytest.raises(UserError, match="each name once"):
        histograms.check_targets(("med", "med=2"), ["med"])
    with pytest.raises(UserError, match="data.domains has no 'art' but med"):
        histograms.check_targets(("art",), ["med"])


def test_several_targets_mixed():
    """0.75 of (1, 0, 0, 0) and 0.25 of (0, 1/2, 1/2, 0), whichever of them it is asked for."""
    counts = {"med": np.array([8, 0, 0, 0]), "law": np.array([0, 1, 1, 0]), "x": FULL_4}
    shares = {"med": 0.75, "law": 0.25}
    for domain in counts:
        aim = histograms.mixed(Aim(), domain, shares, FULL_4, counts)
        assert of(aim, FULL_4, counts[domain]).tolist() == pytest.approx([0.75, 0.125, 0.125, 0])
    assert histograms.mixed(Aim(), "med", {}, FULL_4, counts) == Aim()
    # Another specialist set of `med` moves its own part alone.
    aim = histograms.mixed(Aim(), "med", shares, FULL_4, counts)
    assert of(aim, FULL_4, [0, 0, 0, 2]).tolist() == pytest.approx([0, 0.125, 0.125, 0.75])
    counts["law"] = np.zeros(4, int)
    with pytest.raises(UserError, match="the domain 'law' has no windows"):
        histograms.mixed(Aim(), "med", shares, FULL_4, counts)


def test_a_report_weighs_by_what_is_aimed_at():
    generic, counts = np.array([10, 40, 50]), np.array([3, 1, 0])
    made = weights.report("med", generic, counts, 0.0, 60, aim=Aim("backoff", 2.0))
    aimed = np.array([3.2, 1.8, 1.0]) / 6
    assert made.sampling_K == pytest.approx(aimed)
    assert made.weights_K == pytest.approx(aimed / np.array([0.1, 0.4, 0.5]))
    assert made.specialist_K.tolist() == [0.75, 0.25, 0]  # as counted
    again = made.of_another(np.array([0, 0, 4]))
    assert again.sampling_K == pytest.approx(np.array([0.2, 0.8, 5.0]) / 6)
    assert (again.domain, again.planned_windows) == ("med", 60)
    assert json.dumps(made.to_json())
    with pytest.raises(UserError, match="no windows"):
        weights.report("med", generic, np.zeros(3, int), 0.0, 60, aim=Aim("backoff", 2.0))
