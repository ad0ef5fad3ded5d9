"""Lines of a chart that would cover each other are moved apart, by a few points on the paper.

Only where they are drawn changes: the data of the lines stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

NEAR = 2.0  # points between lines that cover each other
MARKERS = 4.0  # points between markers that cover each other
UP, ASIDE = 2.6, 6.0  # points from one line of a group to the next
SHARE = 0.3  # of the range that two lines have in common: then the lines lie on each other


def set_apart(axis: Axes) -> None:
    """Moves lines on each other up and down, points on each other to the left and right."""
    drawn = _drawn(axis)
    courses = [_points(axis, line) for line, _ in drawn]
    for group in groups(courses, _on_each_other):
        _spread(axis, sorted(group, key=lambda i: courses[i][:, 1].mean()), drawn, (0, UP))
    bars = len(axis.containers)  # the first of those drawn; the others have points all along
    for group in groups(courses[:bars], _points_meet):
        _spread(axis, group, drawn, (ASIDE, 0))


def _spread(axis: Axes, group: Sequence[int], drawn: list, step: tuple[float, float]) -> None:
    """Moves the group's lines by steps of so many points, the group's middle staying in place."""
    from matplotlib.transforms import ScaledTranslation

    for place, i in enumerate(group):
        right, up = ((place - (len(group) - 1) / 2) / 72 * of for of in step)
        for artist in drawn[i][1]:
            moved = ScaledTranslation(right, up, axis.figure.dpi_scale_trans)
            artist.set_transform(artist.get_transform() + moved)


def _drawn(axis: Axes) -> list[tuple[Line2D, list[Artist]]]:
    """(line, all that is drawn with it) of every line of a method."""
    containers: list[Any] = list(axis.containers)
    bars = [(bar.lines[0], [bar.lines[0], *bar.lines[1], *bar.lines[2]]) for bar in containers]
    with_bars = {artist for _, artists in bars for artist in artists}
    return bars + [(line, [line]) for line in axis.lines if line not in with_bars and _shown(line)]


def _shown(line: Line2D) -> bool:
    return not str(line.get_label()).startswith("_") and len(np.asarray(line.get_xdata())) > 0


def _points(axis: Axes, line: Line2D) -> np.ndarray:
    """float [N, 2]: where the line's points lie on the paper, in points, from left to right."""
    at_Nx2 = line.get_transform().transform(line.get_xydata()) * 72 / axis.figure.dpi
    return at_Nx2[np.argsort(at_Nx2[:, 0], kind="stable")]


def groups(courses: Sequence[np.ndarray], nearby) -> list[list[int]]:
    """The lines that are nearby one after the other, groups of two and more."""
    found: list[list[int]] = []
    for i, course in enumerate(courses):
        mine = [group for group in found if any(nearby(courses[j], course) for j in group)]
        found = [group for group in found if group not in mine]
        found.append([*sorted(j for group in mine for j in group), i])
    return [group for group in found if len(group) > 1]


def _on_each_other(a_Nx2: np.ndarray, b_Nx2: np.ndarray) -> bool:
    """Whether two lines lie on each other for a good part of the range they share."""
    low, high = max(a_Nx2[0, 0], b_Nx2[0, 0]), min(a_Nx2[-1, 0], b_Nx2[-1, 0])
    if high - low < ASIDE:
        return False
    x_M = np.linspace(low, high, 50)
    gap_M = np.interp(x_M, *a_Nx2.T) - np.interp(x_M, *b_Nx2.T)
    return bool(np.mean(np.abs(gap_M) < NEAR) > SHARE)


def _points_meet(a_Nx2: np.ndarray, b_Nx2: np.ndarray) -> bool:
    """Whether a point of one covers a point of the other, but the lines do not."""
    if _on_each_other(a_Nx2, b_Nx2):
        return False
    distance_NxM = np.linalg.norm(a_Nx2[:, None] - b_Nx2[None], axis=-1)
    return bool(distance_NxM.min() < MARKERS)
