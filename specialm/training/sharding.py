"""One mesh and one small table: which logical axis of a tensor lies on which axis of the mesh."""

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Logical axis -> mesh axis. Parameters of small models are replicated; the batch is split.
RULES = {"batch": "data", "bank": "data", "expert": "data"}


def make_mesh(*batch_sizes: int) -> Mesh:
    """All devices along the axis `data`.

    The devices of a CPU are threads (see `runtime.configure`): of them, as many are taken as
    divide all `batch_sizes`.
    """
    devices = jax.devices()
    if devices[0].platform == "cpu" and jax.process_count() == 1:
        common = math.gcd(*batch_sizes)
        devices = devices[:max(n for n in range(1, len(devices) + 1) if common % n == 0)]
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def spec(axes: tuple[str | None, ...]) -> PartitionSpec:
    """The partition of a tensor whose axes have these logical names."""
    return PartitionSpec(*(RULES.get(axis) for axis in axes))


def shardings(mesh: Mesh, logical_axes):
    """NamedSharding for each tuple of logical axes in a tree."""
    return jax.tree.map(lambda axes: NamedSharding(mesh, spec(axes)), logical_axes,
                        is_leaf=lambda node: isinstance(node, tuple))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's part of a batch -> global arrays split over `data`.

    Each process passes only its own windows, [B / processes, ...]; `features`, of all groups, are
    whole everywhere.
    """
    split, whole = NamedSharding(mesh, spec(("batch",))), replicated(mesh)
    return {name: jax.make_array_from_process_local_data(
                whole if name == "features" else split, value) for name, value in batch.items()}
