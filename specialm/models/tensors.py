"""The one declaration of a parameter, and what follows from a tree of them.

A tree of `Tensor` is nested dicts. Initial values depend on the order in which tensors are
declared, which the functions here keep; JAX sorts the keys of dicts.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

Tree = dict[str, Any]  # of Tensor, of arrays, or of whatever follows from each tensor
MIXER = "mixer"  # the group of what a bank's coefficients are computed with
TABLE = "table"  # that of tables of which a step reads few rows


@dataclass(frozen=True)
class Tensor:
    """A parameter: abstract values, axes, initial values and its treatment derive from it."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]  # logical names; None is never sharded
    init: Callable[[jax.Array, tuple[int, ...]], jax.Array]  # (key, shape) -> float32 array
    # Of a linear map: how many of its axes, after the leading ones, are inputs; the others are
    # outputs. 0 for all other tensors.
    inputs: int = 0
    leading: int = 0  # axes that count tensors: layers, experts, a bank's sets
    decay: bool = False  # whether weight decay applies
    group: str = ""  # of the learning rate: "", MIXER or TABLE
    # Of a linear map that is several in one: (name, first, end) along its first axis of outputs.
    pieces: tuple[tuple[str, int, int], ...] = ()
    constant: str = ""  # what is given instead of drawn, and never trained: a name of `init`'s

    def stacked(self, count: int, axis: str = "layers") -> "Tensor":
        """So many of these tensors along a new first axis, each with values of its own."""
        return replace(
            self, shape=(count, *self.shape), axes=(axis, *self.axes), leading=self.leading + 1
        )


def matrix(
    shape: tuple, axes: tuple, init: Callable, inputs: int = 1, pieces: tuple = ()
) -> Tensor:
    """A linear map: LoRA can adapt it or one of its pieces, weight decay applies."""
    return Tensor(shape, axes, init, inputs, decay=True, pieces=pieces)


def zeros(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """An initialiser."""
    return jnp.zeros(shape, jnp.float32)


def ones(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """An initialiser."""
    return jnp.ones(shape, jnp.float32)


def given(_: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The initialiser of a constant, which has none: its values are given to `init`."""
    raise ValueError(f"the constant {list(shape)} of this model is not given: families.constants")


def normal(deviation: float) -> Callable:
    """An initialiser: normal with this standard deviation."""
    return lambda key, shape: deviation * jax.random.normal(key, shape, jnp.float32)


def map_tensors(function: Callable[[Tensor], Any], declared: Any) -> Any:
    """`function` of every Tensor of a tree, in the order of declaration."""
    if isinstance(declared, Tensor):
        return function(declared)
    return {name: map_tensors(function, part) for name, part in declared.items()}


def stack(declared: Tree, count: int) -> Tree:
    """The tree with an axis "layers" of this size in front of every tensor."""
    return map_tensors(lambda tensor: tensor.stacked(count), declared)


def flatten(declared: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """(path, Tensor) of a tree, in the order of declaration."""
    if isinstance(declared, Tensor):
        yield path, declared
        return
    for name, part in declared.items():
        yield from flatten(part, (*path, name))


def abstract(declared: Any, dtype: str = "float32") -> Any:
    """Shapes and dtypes; nothing is allocated.

    Args:
      dtype: of matrices; all else is float32.
    """
    return map_tensors(
        lambda tensor: jax.ShapeDtypeStruct(tensor.shape, _dtype(tensor, dtype)), declared
    )


def _dtype(tensor: Tensor, dtype: str) -> Any:
    return jnp.dtype(dtype if tensor.decay else "float32")


def cast(declared: Any, values: Any, dtype: str) -> Any:
    """Parameters in the dtypes of `abstract`."""
    return jax.tree.map(lambda leaf, of: leaf.astype(of.dtype), values, abstract(declared, dtype))


def logical_axes(declared: Any) -> Any:
    """For each parameter the tuple of its axes' names."""
    return map_tensors(lambda tensor: tensor.axes, declared)


def init(declared: Any, key: jax.Array, constants: dict[str, Any] | None = None) -> Any:
    """Initial parameters, float32, a pure function of the key.

    Args:
      constants: values of the tensors that are not drawn, by `Tensor.constant`.
    """
    keys = iter(jax.random.split(key, sum(1 for _ in flatten(declared))))

    def values(tensor: Tensor) -> jax.Array:
        own = next(keys)
        if constants and tensor.constant in constants:
            return jnp.broadcast_to(constants[tensor.constant], tensor.shape)
        return tensor.init(own, tensor.shape)

    return map_tensors(values, declared)


def count(declared: Any) -> int:
    """Number of scalars of all parameters; constants are none."""
    return sum(math.prod(tensor.shape) for _, tensor in flatten(declared) if not tensor.constant)


def get(tree: Any, path: tuple[str, ...]) -> Any:
    """What lies at a path of a tree of dicts."""
    for name in path:
        tree = tree[name]
    return tree


def updated(tree: Any, path: tuple[str, ...], value: Any) -> Any:
    """A copy of a tree of dicts with another value at a path."""
    if not path:
        return value
    return {**tree, path[0]: updated(tree.get(path[0], {}), path[1:], value)}


def without(tree: Any, part: Any) -> Any:
    """A tree of dicts without the leaves of another."""
    found = {}
    for name, value in tree.items():
        if name not in part:
            found[name] = value
        elif isinstance(value, dict) and isinstance(part[name], dict):
            found[name] = without(value, part[name])
    return found


def joined(part: Any, rest: Any) -> Any:
    """The tree of the leaves of both."""
    found = dict(rest)
    for name, value in part.items():
        found[name] = joined(value, rest.get(name, {})) if isinstance(value, dict) else value
    return found
