"""The one declaration of a parameter, and what follows from a tree of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Tensor:
    """A parameter: abstract values, axes and initial values derive from it."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]  # logical names; None is never sharded
    init: Callable  # (key, shape) -> float32 array


def zeros(_, shape):
    """An initialiser."""
    return jnp.zeros(shape, jnp.float32)


def ones(_, shape):
    """An initialiser."""
    return jnp.ones(shape, jnp.float32)


def normal(deviation: float) -> Callable:
    """An initialiser: normal with this standard deviation."""
    return lambda key, shape: deviation * jax.random.normal(key, shape, jnp.float32)


def map_tensors(function: Callable, declared: Any) -> Any:
    """`function` of every Tensor of a tree."""
    return jax.tree.map(function, declared, is_leaf=lambda node: isinstance(node, Tensor))


def abstract(declared: Any) -> Any:
    """Shapes and dtypes; nothing is allocated."""
    return map_tensors(lambda tensor: jax.ShapeDtypeStruct(tensor.shape, jnp.float32), declared)


def logical_axes(declared: Any) -> Any:
    """For each parameter the tuple of its axes' names."""
    return map_tensors(lambda tensor: tensor.axes, declared)


def init(declared: Any, key: jax.Array) -> Any:
    """Initial parameters, float32, a pure function of the key."""
    tensors, tree = jax.tree.flatten(declared, is_leaf=lambda node: isinstance(node, Tensor))
    keys = jax.random.split(key, len(tensors))
    return jax.tree.unflatten(
        tree, [tensor.init(k, tensor.shape) for tensor, k in zip(tensors, keys, strict=True)]
    )


def count(declared: Any) -> int:
    """Number of scalars of all parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract(declared)))
