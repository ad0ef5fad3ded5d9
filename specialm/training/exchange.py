"""The exchange of a bank: slices of every group's weights -> the whole weights of a device's own
groups, in one message, and the gradients back in another: of all layers, or of each layer alone.

Inside of a `jax.shard_map`. Each device has projected its part of d_ff of all groups' MLPs; what is
sent is as large as one group's weights (times the groups of a device), never the bank. Where a row
of devices along `fsdp` trains one group, each gets its part of that group's weights, so much less
is sent across rows; the row then gathers a layer just before it is used, as it gathers all others.
"""

import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh

from specialm.models.placement import FETCHED, gather_axis, narrow
from specialm.models.target import platform
from specialm.training import hardware
from specialm.training.sharding import ROWS, WINDOWS


def axes_of(groups: int) -> tuple[str, ...]:
    """The axes of the mesh along which devices have other groups: not `fsdp` where there are fewer
    groups than devices.
    """
    return ROWS if 1 < groups < jax.lax.axis_size(WINDOWS) else WINDOWS


def _exchange(
    slices: list[jax.Array], places: tuple[int, ...], dtype: str, axes: tuple[str, ...]
) -> list[jax.Array]:
    """[G, ...] each -> [g, ...], whole along the axis that was divided over the devices.

    Values are rounded to `dtype`, in which they will be used. With G = 1 all devices have the one
    group. The gradients go back in `dtype` as well (the matrix product that spreads them over the
    bank would round them to it), but for G = 1, where they are summed, in float32.

    Args:
      places: of each array, the divided axis, not counting G.
      axes: of the mesh, see `axes_of`; whole means a row's part if `fsdp` is not among them.
    """
    n, shapes = jax.lax.axis_size(axes), [leaf.shape[1:] for leaf in slices]
    packed_Gxw = jnp.concatenate([narrow(leaf, dtype).reshape(len(leaf), -1) for leaf in slices], 1)
    if len(packed_Gxw) == 1:
        packed_nxgxw = jax.lax.all_gather(packed_Gxw, axes)
    else:
        packed_nxgxw = _swap(packed_Gxw.reshape(n, -1, packed_Gxw.shape[1]), axes)
    whole_leaves, first = [], 0
    for leaf, shape, at in zip(slices, shapes, places, strict=True):
        part = packed_nxgxw[:, :, first : first + math.prod(shape)].reshape(n, -1, *shape)
        first += math.prod(shape)
        whole = [part.shape[1], *shape]
        whole[at + 1] *= n
        fetched = checkpoint_name(jnp.moveaxis(part, 0, at + 1).reshape(whole), FETCHED)
        whole_leaves.append(fetched.astype(leaf.dtype))
    return whole_leaves


exchange = jax.custom_vjp(_exchange, nondiff_argnums=(1, 2, 3))


def gather_row(part: jax.Array, axis: int, dtype: str, ordered: bool) -> jax.Array:
    """A device's part of its group's weights -> the whole, along an axis.

    Args:
      ordered: whether values have to lie as in the model. Hidden units of an MLP, whose order is
        the same in all of its tensors, need not, and are then not copied.
    """
    if not ordered:
        return gather_axis(part, axis, dtype, False)
    split = (jax.lax.axis_size(ROWS), part.shape[axis] // jax.lax.axis_size(ROWS))
    parts = part.reshape(*part.shape[:axis], *split, *part.shape[axis + 1 :])
    whole = gather_axis(parts, axis + 1, dtype, False)
    return whole.reshape(*part.shape[:axis], -1, *part.shape[axis + 1 :])


def compiler_options(mesh: Mesh) -> dict[str, bool]:
    """So that XLA starts an all-to-all early and waits for it where it is used. On a TPU it does so
    only when asked to; where it cannot, asking is an error.
    """
    chip = hardware.chip(mesh.devices.flat[0].device_kind)
    can = chip is not None and mesh.size <= chip.async_all_to_all
    return {"xla_tpu_enable_async_all_to_all": True} if can else {}


def in_rows(x: jax.Array) -> jax.Array:
    """An array whose last axis lies together in memory. A TPU's compiler may lay a gradient out
    as its next use likes it, and then copies what it is computed of, which is larger, or what it
    updates, which is more. Inside of a `jax.shard_map` alone: elsewhere XLA would gather it.
    """
    if platform() != "tpu":
        return x
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


def _swap(packed_nxgxw: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """What is for device i at place i -> what came from device i at place i."""
    return jax.lax.all_to_all(packed_nxgxw, axes, split_axis=0, concat_axis=0, tiled=True)


def _forward(slices, places, dtype, axes):
    # All that is needed again is whether there is one group, which the structure says.
    # Not `exchange`: a policy of `jax.checkpoint` would not see the names in it.
    return _exchange(slices, places, dtype, axes), () if len(slices[0]) == 1 else None


def _backward(places, dtype, axes, one_group, grads):
    n, g = jax.lax.axis_size(axes), len(grads[0])
    parts, shapes = [], []
    for grad, at in zip(grads, places, strict=True):
        grad = in_rows(grad)
        shape = list(grad.shape[1:])
        shape[at] //= n
        split = grad.reshape(g, *shape[:at], n, *shape[at:])
        parts.append(jnp.moveaxis(split, at + 1, 0).reshape(n, g, -1))
        shapes.append(shape)
    packed_nxgxw = jnp.concatenate(parts, 2)
    if one_group is not None:
        packed_Gxw = jax.lax.psum_scatter(packed_nxgxw, axes)
    else:
        packed_Gxw = _swap(narrow(packed_nxgxw, dtype), axes).reshape(n * g, -1)
    slices, first = [], 0
    for grad, shape in zip(grads, shapes, strict=True):
        part = packed_Gxw[:, first : first + math.prod(shape)]
        slices.append(part.reshape(-1, *shape).astype(grad.dtype))
        first += math.prod(shape)
    return (slices,)


exchange.defvjp(_forward, _backward)
