"""HyperCloning: a wider model that computes the same function (Samragh et al., arXiv 2409.12903).

The residual stream, hidden units and heads are n copies of the source's; a linear map is tiled, and
divided by how often it sums over the same numbers (section 3). Norms of copies are copies. Each
logit is a sum over n copies of the last state, so the last norm is divided by n: heads may be tied
or not. Logits are the same up to the order of float32 sums.

Copies that are equal have equal gradients, and nothing here (no dropout) would ever tell them
apart: `noise` does, which sums to zero over the copies of an input, so that the function stays (our
reading of the paper's noisy variant).
"""

from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.models.config import Config
from specialm.models.maps import axes
from specialm.models.maps.axes import Axis

# Parts whose output goes with the width in another way.
OTHER_WAYS = {"embedder": "scaled_tokens", "norm": "rmsnorm_plus1"}


def check(source: Config, target: Config) -> None:
    """Raises UserError for a size that is no multiple of that of the source, or a part that has no
    exact copy.
    """
    for setting, part in OTHER_WAYS.items():
        if getattr(source, setting) == part:
            raise UserError(
                f"model.{setting}={part!r}: hypercloning has no exact copy of it; use "
                "--method=selection or first_layers."
            )
    axes.check(source, target, lambda before, after: after % before == 0, "a multiple of")
    if target.num_layers != source.num_layers:
        raise UserError(
            f"model.num_layers={target.num_layers}: must be {source.num_layers}; hypercloning "
            "makes a model wider, not deeper."
        )


def apply(params: Any, source: Config, target: Config, noise: float = 0.0) -> Any:
    """Parameters of the wider model.

    Args:
      noise: its standard deviation, as a part of that of each linear map.
    """
    rng = np.random.default_rng(0)

    def change(array: np.ndarray, of: list[Axis]) -> np.ndarray:
        if axes.copies(of) == 1:
            return array
        array = array / np.float32(axes.copies(of))
        return array + _noise(array, of, noise, rng) if noise else array

    before = axes.sizes(source)
    chosen = {name: np.arange(after) % before[name] for name, after in axes.sizes(target).items()}
    made = axes.mapped(params, source, target, chosen, change)
    times = np.float32(target.d_model // source.d_model)
    for head in made["heads"].values():
        head["norm"] = {name: array / times for name, array in head["norm"].items()}
    return made


def _noise(array: np.ndarray, of: list[Axis], part: float, rng: np.random.Generator) -> np.ndarray:
    """Normal numbers whose sum over the copies of each input is zero."""
    drawn = rng.normal(0, part * array.std(), array.shape).astype(np.float32)
    first = array.ndim - len(of)
    for axis, each in enumerate(of, first):
        times = len(each.indices) // len(np.unique(each.indices))
        if not each.is_input or times == 1:
            continue
        order = np.argsort(each.indices, kind="stable")  # copies side by side
        sorted_copies = np.take(drawn, order, axis)
        shape = list(sorted_copies.shape)
        shape[axis : axis + 1] = [len(order) // times, times]
        centred = sorted_copies.reshape(shape)
        centred = centred - centred.mean(axis + 1, keepdims=True)
        return np.take(centred.reshape(drawn.shape), np.argsort(order), axis)
    return drawn
