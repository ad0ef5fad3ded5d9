"""The parts of a transformer. Each file has one table: a config chooses by name, and nothing
outside of the tables asks for names.

A part declares its tensors, applies them and says what that costs; sizes that it cannot have are a
rule in `models/check.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from specialm.models.config import Config
from specialm.models.operations import linear
from specialm.models.placement import Placement
from specialm.models.tensors import Tensor

Weights = dict[str, Any]  # arrays, as declared


def no_flops(config: Config) -> int:
    """Of a part without matrix products."""
    return 0


@dataclass(frozen=True)
class Part:
    """One choice of a table."""

    declare: Callable[..., dict[str, Tensor]]
    apply: Callable[..., jax.Array]
    flops: Callable[[Config], int] = no_flops  # of matrix products, forward, per token


def biases(config: Config, **tensors: Tensor) -> dict[str, Tensor]:
    """These tensors, or none for an architecture without biases."""
    return tensors if config.biases else {}


def block_output(
    x: jax.Array, weight: jax.Array, bias_D: jax.Array | None, place: Placement
) -> jax.Array:
    """x weight + bias; the devices' parts are summed before the bias is added."""
    if place.model == 1:
        return linear(x, weight, bias_D)
    summed = place.from_model_parallel(linear(x, weight, None))
    return summed if bias_D is None else summed + bias_D.astype(x.dtype)
