"""The mesh of devices, and how tensors and batches lie on it, by the rules of `layout.py`."""

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from specialm.models.placement import Placement
from specialm.training import layout as layout_lib
from specialm.training.layout import (  # noqa: F401
    AXES,
    DATA,
    EXPERT,
    FSDP,
    MODEL,
    ROWS,
    RULES,
    WINDOWS,
    axis_sizes,
)

# Parameters from which a CPU's cores work together on one device: a device for each core is up to
# 1.5 times as fast for a small model, no faster at 135M parameters, and holds its own copy of
# parameters, gradients and moments (docs/performance.md).
LARGE = 64_000_000


def make_mesh(
    *batch_sizes: int, layout: ConfigDict | dict | None = None, experts: int = 1, params: int = 0
) -> Mesh:
    """All devices, those that no other axis takes along `data`.

    The devices of a CPU are threads (see `runtime.configure`): of them, as many are taken as
    divide all `batch_sizes`, the same number of every process; for `LARGE` models as few as the
    layout asks for.

    Args:
      layout: `config.mesh`; all axes but `data` are 1 by default.
      experts: of a mixture, if one is to be trained: see `axis_sizes`.
      params: of the dense model.

    Raises:
      UserError: the axes do not divide the devices.
    """
    devices, layout = jax.devices(), dict(layout or {})
    if devices[0].platform == "cpu":
        common = math.gcd(*batch_sizes) * layout.get(MODEL, 1)
        taken = math.prod(max(1, size) for size in layout.values())
        processes, each = jax.process_count(), jax.local_device_count()
        fit = [
            n
            for n in range(1, each + 1)
            if common % (n * processes) == 0 and n * processes % taken == 0
        ]
        each = (min if params >= LARGE else max)(fit, default=each)
        devices = [
            device
            for number in range(processes)
            for device in [d for d in devices if d.process_index == number][:each]
        ]
    return jax.make_mesh(
        axis_sizes(len(devices), layout, experts),
        AXES,
        axis_types=(AxisType.Auto,) * len(AXES),
        devices=devices,
    )


def placement(mesh: Mesh) -> Placement:
    """How a dense model lies on the mesh, as the model sees it."""
    return Placement(mesh.shape[FSDP], mesh.shape[MODEL])


def parts(mesh: Mesh, axis: str | None) -> int:
    """Into how many parts a logical axis is divided."""
    return layout_lib.parts(mesh.shape, axis)


def spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of a tensor whose axes have these logical names."""
    return PartitionSpec(*(RULES.get(axis) for axis in axes))


def _is_axes(node) -> bool:
    """Whether a node of a tree is the logical axes of one tensor."""
    return isinstance(node, tuple) and all(name is None or isinstance(name, str) for name in node)


def specs(logical_axes):
    """The partition of every tensor of a tree of logical axes."""
    return jax.tree.map(spec, logical_axes, is_leaf=_is_axes)


def shardings(mesh: Mesh, logical_axes):
    """NamedSharding for each tuple of logical axes in a tree."""
    return jax.tree.map(
        lambda axes: NamedSharding(mesh, spec(axes)), logical_axes, is_leaf=_is_axes
    )


def sum_parts(grads, logical_axes, copies: tuple[str, ...] = WINDOWS):
    """Inside of a `jax.shard_map`: sums each gradient over the copies of its tensor that saw other
    windows. What is divided over an axis has been summed over it already.
    """

    def over(grad, axes):
        divided = {name for axis in axes for name in layout_lib.names(axis)}
        left = tuple(axis for axis in copies if axis not in divided)
        return jax.lax.psum(grad, left) if left else grad

    leaves, tree = jax.tree.flatten(grads)
    names = jax.tree.leaves(logical_axes, is_leaf=_is_axes)
    return jax.tree.unflatten(tree, [over(*each) for each in zip(leaves, names, strict=True)])


def fitted(place: NamedSharding, shape: tuple[int, ...]) -> NamedSharding:
    """The place of a tensor for another with as many axes: whole along those that do not divide."""
    names = [*place.spec, *([None] * (len(shape) - len(place.spec)))]

    def divides(size: int, over: str | tuple[str, ...] | None) -> bool:
        axes = (over,) if isinstance(over, str) else tuple(over or ())
        return size % math.prod(place.mesh.shape[axis] for axis in axes) == 0

    kept = [over if divides(size, over) else None for size, over in zip(shape, names, strict=True)]
    return NamedSharding(place.mesh, PartitionSpec(*kept))


def check(mesh: Mesh, abstract, logical_axes) -> None:
    """Raises UserError for a tensor that does not divide over the mesh."""
    names = jax.tree.leaves(logical_axes, is_leaf=_is_axes)
    for leaf, axes in zip(jax.tree.leaves(abstract), names, strict=True):
        for size, axis in zip(leaf.shape, axes, strict=True):
            layout_lib.check_size(mesh.shape, axis, size)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows(mesh: Mesh, size: int) -> np.ndarray:
    """int64: which rows of a batch of `size` windows the devices of this process work on."""
    parts = NamedSharding(mesh, spec(("batch",))).addressable_devices_indices_map((size,))
    return np.unique(np.concatenate([np.arange(size)[where] for where in parts.values()]))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's `rows` of a batch -> global arrays whose windows are divided; `features`, of
    all groups, are whole everywhere.
    """
    split, whole = NamedSharding(mesh, spec(("batch",))), replicated(mesh)
    return {
        name: jax.make_array_from_process_local_data(whole if name == "features" else split, value)
        for name, value in batch.items()
    }
