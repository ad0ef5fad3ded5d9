"""What a training step holds at least, from shapes alone: nothing is allocated or compiled."""

import math
from typing import Any

import jax
import optax

from specialm.models import families, tensors
from specialm.training import step


def of_step(
    config: families.Config,
    optimizer: optax.GradientTransformation,
    dtype: str,
    groups: int = 0,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, int]:
    """{part: bytes} that are there at the same time, when all gradients are and the optimizer
    starts; activations come on top.

    Args:
      dtype: of matrices, `train.param_dtype`.
      groups: of a bank's batch, each with projected weights and their gradients.
      mesh: bytes over all of its devices, each with its copy of what is not divided; None for one
        device.
    """
    state = step.abstract_state(config, optimizer, dtype)
    where = step.state_sharding(config, optimizer, mesh) if mesh else None
    gradients = tensors.abstract(families.declare(config))
    if isinstance(config, families.bank.Config):
        gradients = {**gradients, "bank": state.params["bank"]}
    found = {
        "parameters": _bytes(state.params, where and where.params),
        "moments": _bytes(state.optimizer, where and where.optimizer),
        "gradients": _bytes(gradients, where and where.params),
    }
    if isinstance(config, families.bank.Config):
        one = tensors.count(families.declare(config)["bank"]) // config.rank
        found["projected weights and their gradients"] = 2 * 4 * one * max(1, groups)
    return found


def _bytes(abstract: Any, where: Any) -> int:
    """Of all leaves, each as often as devices hold it."""
    leaves = jax.tree.leaves(abstract)
    places = jax.tree.leaves(where) if where is not None else [None] * len(leaves)
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize * _copies(place, leaf.shape)
        for leaf, place in zip(leaves, places, strict=True)
    )


def _copies(place: jax.sharding.NamedSharding | None, shape: tuple[int, ...]) -> int:
    """How many copies of a tensor the devices hold."""
    if place is None:
        return 1
    return place.num_devices * math.prod(place.shard_shape(shape)) // max(1, math.prod(shape))
