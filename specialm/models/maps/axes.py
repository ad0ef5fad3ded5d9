"""What the axes of a transformer's tensors are axes of, and tensors with other indices along them.

No tensor is asked for its name: an axis belongs to those sizes whose change changes its length.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.models import tensors, transformer
from specialm.models.config import Config
from specialm.models.tensors import Tensor

WIDTH, HIDDEN, GROUPS, QUERIES = SIZES = ("d_model", "d_ff", "groups of heads", "heads of a group")
Roles = tuple[frozenset[str], ...]  # of a tensor's axes: the sizes that each is an axis of


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor, after that of the layers.

    Attributes:
      roles: the sizes that it is an axis of; none: it stays as it is.
      indices: of the source, for each place of the target.
      is_input: whether a linear map sums over it.
    """

    roles: frozenset[str]
    indices: np.ndarray
    is_input: bool


def sizes(config: Config) -> dict[str, int]:
    """The length of each of SIZES. Heads come in groups that share keys and values."""
    queries = config.num_heads // config.kv_heads
    return dict(zip(SIZES, (config.d_model, config.d_ff, config.kv_heads, queries), strict=True))


def check(
    source: Config, target: Config, is_possible: Callable[[int, int], bool], how: str
) -> None:
    """Raises UserError for a size of `target` that a map cannot give.

    Args:
      is_possible: (size in the source, in the target) -> whether it can.
      how: what it has to be, for the error.
    """
    if source.share:
        raise UserError(
            f"model.share={source.share!r}: layers that share weights have no map to other sizes."
        )
    if source.size_of_head != target.size_of_head:
        raise UserError(
            f"model.head_size={target.size_of_head}: heads stay whole, with "
            f"{source.size_of_head} numbers each; give another number of them (model.num_heads, "
            "model.num_kv_heads)."
        )
    for name, size in sizes(target).items():
        if not is_possible(sizes(source)[name], size):
            label = name if " " in name else f"model.{name}"
            raise UserError(f"{label}={size}: must be {how} {sizes(source)[name]}.")


def _of_sizes(config: Config, width: int, hidden: int, groups: int, queries: int) -> Config:
    return dataclasses.replace(
        config,
        d_model=width,
        d_ff=hidden,
        num_kv_heads=groups,
        num_heads=groups * queries,
        head_size=config.size_of_head,
    )


def _declared(config: Config) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    return tensors.flatten(transformer.declare(config))


def _roles(config: Config) -> dict[tuple[str, ...], Roles]:
    """{path: the roles of the tensor's axes}."""
    of_size = sizes(config)
    lengths = {
        path: tensor.shape for path, tensor in _declared(_of_sizes(config, *of_size.values()))
    }
    roles: dict[tuple[str, ...], list[set[str]]] = {
        path: [set() for _ in shape] for path, shape in lengths.items()
    }
    for size in SIZES:
        changed = {**of_size, size: of_size[size] + 1}
        for path, tensor in _declared(_of_sizes(config, *changed.values())):
            for axis, length in enumerate(tensor.shape):
                if length != lengths[path][axis]:
                    roles[path][axis].add(size)
    return {path: tuple(map(frozenset, axes)) for path, axes in roles.items()}


def _indices(roles: frozenset[str], length: int, chosen: Mapping[str, np.ndarray], queries: int):
    """Of an axis, for each place of the target.

    Args:
      length: in the source.
      chosen: {size: indices of the source}.
      queries: heads of a group in the source.
    """
    if not roles:
        return np.arange(length)
    if roles == {GROUPS, QUERIES}:  # all heads, group after group
        return (chosen[GROUPS][:, None] * queries + chosen[QUERIES]).reshape(-1)
    (size,) = roles
    if size == QUERIES:  # those of a group, then its keys and its values
        return np.concatenate([chosen[QUERIES], [queries, queries + 1]])
    return chosen[size]


def mapped(
    params: Any,
    source: Config,
    target: Config,
    chosen: Mapping[str, np.ndarray],
    change: Callable[[np.ndarray, list[Axis]], np.ndarray] = lambda array, axes: array,
) -> Any:
    """Parameters of `target`: those of `source` at the chosen indices, of its first layers.

    Args:
      chosen: {size: indices of the source}, for each of SIZES.
      change: (a tensor so made, its axes after that of the layers) -> the tensor.
    """
    roles, queries = _roles(source), sizes(source)[QUERIES]
    made: dict[str, Any] = {}
    for path, tensor in _declared(target):
        array, in_layers = np.asarray(tensors.get(params, path)), tensor.axes[0] == "layers"
        array = array[: target.num_layers] if in_layers else array
        axes = []
        for axis in range(int(in_layers), array.ndim):
            of = roles[path][axis]
            indices = _indices(of, array.shape[axis], chosen, queries)
            array = np.take(array, indices, axis)
            axes.append(Axis(of, indices, axis - int(in_layers) < tensor.inputs))
        made = tensors.updated(made, path, np.ascontiguousarray(change(array, axes)))
    return made


def copies(axes: list[Axis]) -> int:
    """How often a linear map sums over the same numbers."""
    return math.prod(
        len(axis.indices) // len(np.unique(axis.indices)) for axis in axes if axis.is_input
    )
