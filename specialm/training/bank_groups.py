"""The loss and gradients of a device's groups, each trained as a dense model.

Every device has projected its slice of all groups' weights; for its own groups (or that of its row
of devices along `fsdp`) it needs the whole ones. Two ways:

- Side by side, where all of a device's windows are run at once (accelerators): each layer fetches
  its weights in the loop over layers, and its gradients are sent back there, so that the exchange
  of a layer's MLP runs beside the arithmetic of its attention.
- One after the other, some windows at a time, which keeps to a CPU's caches: the weights of all
  layers are exchanged in front of it, once.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import tensors, transformer
from specialm.models.families import bank
from specialm.models.placement import FSDP, SENT, Placement, Sent
from specialm.training import narrow, sharding, step
from specialm.training.exchange import axes_of, exchange, gather_row

Slices = Any  # {part: [G, S, ...]}: this device's part of every group's weights


@dataclasses.dataclass(frozen=True)
class Groups:
    """How the groups of a batch are computed; inside of a `jax.shard_map`."""

    config: bank.Config
    axes: tensors.Tree  # logical axes of the parameters
    place: Placement
    sum_loss: Callable  # (params, windows, (), place) -> the sum over these windows
    size: int  # windows at a time; 0 for all

    def sums(self, shared: transformer.Params, slices: Slices, windows: dict):
        """(sum of the loss over this device's groups, gradients of `shared`, gradients of `slices`
        over all devices' groups).

        Args:
          windows: arrays [B, ...], in the order of the groups.
        """
        together = not 0 < self.size < len(windows["inputs"])
        by_layer = together and not self.config.model.share
        loss, send = self._loss, self._exchanged
        if by_layer:
            loss, send = self._loss_by_layer, _for_own_groups
        given_g, to_slices = jax.vjp(send, slices)
        way = _side_by_side if together else partial(_in_turn, self.size)
        nll, grad_shared, grad_given_g = way(loss, shared, given_g, _by_group(windows, given_g))
        return nll, grad_shared, to_slices(grad_given_g)[0]

    def _loss_by_layer(self, parts: tuple, windows: dict):
        """Of one group: the shared parameters, and what this device sends, {part: [S, n, ...]}."""
        shared, slices_Sxn = parts
        sent = Sent(self.config.layers, self.config.parts, self._fetch)
        place = dataclasses.replace(self.place, sent=sent)
        layers = {**shared["layers"], SENT: slices_Sxn}
        return self.sum_loss({**shared, "layers": layers}, windows, (), place)

    def _loss(self, parts: tuple, windows: dict):
        """Of one group: the shared parameters, and the whole of its banked parts."""
        shared = self._gather_outside(parts[0])
        place = dataclasses.replace(self.place, whole=self.config.parts)
        return self.sum_loss(bank.assemble(shared, parts[1], self.config), windows, (), place)

    def _fetch(self, slices_n: Any) -> Any:
        """{part: [n, ...]}, one layer's slices for the groups of n devices (1: of all of them) ->
        the whole weights of this device's group.
        """
        return jax.tree.map(lambda leaf: leaf[0], self._whole(slices_n, leading=2))

    def _exchanged(self, slices: Slices) -> Any:
        """{part: [g, S, ...]}: the whole weights of this device's own groups."""
        return self._whole(slices, leading=1)

    def _whole(self, slices: Any, leading: int) -> Any:
        """Slices [G, ...] -> whole [g, ...].

        Args:
          leading: axes of the bank's tensors that the slices have not, besides that of their
            groups: h, and the layer's where there is one alone.
        """
        leaves, tree = jax.tree.flatten(slices)
        axes = jax.tree.leaves(self.axes["bank"], is_leaf=lambda node: isinstance(node, tuple))
        places = tuple(
            next(i for i, name in enumerate(names) if name in bank.DIVIDED) - leading
            for names in axes
        )
        dtype, along = self.config.model.dtype, axes_of(len(leaves[0]))
        received = exchange(leaves, places, dtype, along)
        is_bias = ["bank_bias" in names for names in axes]
        if FSDP not in along:
            parts = zip(received, places, is_bias, strict=True)
            received = [gather_row(leaf, at + 1, dtype, bias) for leaf, at, bias in parts]
        received = [
            _whole_bias(leaf, self.place.model) if bias else leaf
            for leaf, bias in zip(received, is_bias, strict=True)
        ]
        return jax.tree.unflatten(tree, received)

    def _gather_outside(self, shared: transformer.Params) -> transformer.Params:
        """The shared parameters, gathered the banked parts of the layers outside of the bank."""
        if not self.config.others:
            return shared
        parts, where = (
            {name: tree["layers"][name] for name in self.config.parts}
            for tree in (shared, self.axes["shared"])
        )
        gathered = self.place.gather(parts, where, self.config.model.dtype)
        return {**shared, "layers": {**shared["layers"], **gathered}}


def _side_by_side(loss: Callable, shared: transformer.Params, given_g: Any, windows_g: dict):
    """(sum of `loss` over all groups, its gradients) with the groups as one batch; of one group
    without that axis, for which XLA would choose other layouts, with copies between them.
    """

    def total(shared, given_g):
        def of_group(given, windows):
            return loss((shared, given), windows)

        if len(jax.tree.leaves(windows_g)[0]) == 1:
            return of_group(*jax.tree.map(lambda leaf: leaf[0], (given_g, windows_g)))
        return jnp.sum(jax.vmap(of_group)(given_g, windows_g))

    nll, grads = jax.value_and_grad(total, argnums=(0, 1))(shared, narrow.widened(given_g))
    return nll, *grads


def _in_turn(size: int, loss: Callable, shared: transformer.Params, given_g: Any, windows_g: dict):
    """The same, one group after the other, `size` windows at a time."""

    def group(total, part):
        given, windows = part
        nll, grad_shared = total
        part_nll, (more_shared, grad_given) = step.sum_gradients(
            loss, (shared, given), windows, size
        )
        return (nll + part_nll, jax.tree.map(jnp.add, grad_shared, more_shared)), grad_given

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, shared))
    (nll, grad_shared), grad_given_g = jax.lax.scan(group, zero, (given_g, windows_g))
    return nll, grad_shared, grad_given_g


def _by_group(windows: dict, trees_g: Any) -> dict:
    """[B, ...] -> [g, B/g, ...], for as many groups as there are in another tree."""
    g = len(jax.tree.leaves(trees_g)[0])
    return {name: value.reshape(g, -1, *value.shape[1:]) for name, value in windows.items()}


def _for_own_groups(slices: Slices) -> Any:
    """{part: [g, S, n, ...]}: by this device's own groups, what it sends to the n devices for their
    group of the same place (to those of its place in n rows, where a row has one group); with one
    group of all devices [1, S, 1, ...].
    """

    def split(leaf_GxS: jax.Array) -> jax.Array:
        n = 1 if len(leaf_GxS) == 1 else jax.lax.axis_size(axes_of(len(leaf_GxS)))
        return jnp.moveaxis(leaf_GxS.reshape(n, -1, *leaf_GxS.shape[1:]), 0, 2)

    return jax.tree.map(split, slices)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _whole_bias(part_D: jax.Array, devices: int) -> jax.Array:
    """A bias [..., D] that is added to what the devices along `model` have summed: whole on each of
    them, and its gradient is too.
    """
    if devices == 1:
        return part_D
    return jax.lax.all_gather(part_D, sharding.MODEL, axis=part_D.ndim - 1, tiled=True)


def _whole_bias_backward(devices, size, grad_D):
    if devices == 1:
        return (grad_D,)
    start = jax.lax.axis_index(sharding.MODEL) * size
    return (jax.lax.dynamic_slice_in_dim(grad_D, start, size, axis=grad_D.ndim - 1),)


_whole_bias.defvjp(
    lambda part, devices: (_whole_bias(part, devices), part.shape[-1]), _whole_bias_backward
)
