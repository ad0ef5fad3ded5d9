"""Consecutive layers that run in one loop.

All layers of most models are one segment. A bank's layers whose weights come from other devices one
layer at a time (`placement.Sent`) are segments of their own between those that lie here.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import jax

from specialm.models import expansion, tensors
from specialm.models.config import Config
from specialm.models.placement import SENT, Placement


@dataclass(frozen=True)
class Segment:
    """The layers from `first` up to `end`, with their weights on a leading axis."""

    first: int
    end: int
    weights: Any
    place: Placement

    def part(self, first: int, end: int) -> "Segment":
        """What of it lies from `first` up to `end`."""
        first, end = max(self.first, first), min(self.end, end)
        weights = _rows(self.weights, first - self.first, end - self.first)
        return Segment(first, end, weights, self.place)


def of(layers: Any, declared: tensors.Tree, config: Config, place: Placement) -> list[Segment]:
    """All layers of a model, in their order.

    Args:
      layers: what is stored of them; with `place.sent`, their other parts for all layers, the parts
        that are sent for the layers that lie here, and under `SENT` what is sent of the rest.
      declared: one layer's declaration.
    """
    sent = place.sent
    if sent is None:
        whole = expansion.expanded(layers, declared, config, place)
        return [Segment(0, config.num_layers, whole, place)]
    here = replace(place, sent=None)
    every = {name: part for name, part in layers.items() if name not in (*sent.parts, SENT)}
    outside = {name: layers[name] for name in sent.parts if name in layers}
    found, counts = [], {True: 0, False: 0}  # layers of each kind so far
    for is_sent, numbers in itertools.groupby(range(config.num_layers), sent.layers.__contains__):
        run = list(numbers)
        first, end = run[0], run[-1] + 1
        start = counts[is_sent]
        counts[is_sent] += len(run)
        parts = _rows(layers[SENT] if is_sent else outside, start, counts[is_sent])
        weights = {**_rows(every, first, end), **parts}
        found.append(Segment(first, end, weights, place if is_sent else here))
    return found


def _rows(tree: Any, first: int, end: int) -> Any:
    """Some of the layers of a tree of stacked arrays."""

    def rows(leaf):
        is_all = (first, end) == (0, len(leaf))
        return leaf if is_all else leaf[first:end]

    return jax.tree.map(rows, tree)
