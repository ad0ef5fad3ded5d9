"""The training step of a parameter bank: project, train every group as a dense model, update.

A batch is G groups of B/G windows, each with its features. The bank lies split over the devices
along d_ff. Each device computes its slice of every group's weights, the slices are exchanged, so
that a device holds the whole weights of its own groups only, and trains these groups as plain dense
models: one after the other, or side by side where all of its windows are run at once. The
gradients go back the same way: the bank, h times larger than what is projected, is neither gathered
nor exchanged, and each device updates its part of it: at every step, or every few (`bank_updates`).
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from specialm.models import tensors, transformer
from specialm.models.families import bank
from specialm.models.placement import Placement
from specialm.training import bank_updates, narrow, objectives, sharding, step, touched
from specialm.training.exchange import exchange
from specialm.training.step import TrainState


def make_train_step(
    config: bank.Config,
    optimizer: optax.GradientTransformation | bank_updates.Optimizer,
    mesh: jax.sharding.Mesh,
    microbatch: int = 0,
    objective: str = "next_token",
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    Args:
      microbatch: windows at a time on a device; 0 chooses. With all of them the groups go side by
        side, which fills an accelerator; one after the other keeps to a CPU's caches.
      objective: one of `objectives.OBJECTIVES`.

    The batch has inputs, targets, mask [B, L] in the order of their groups, split over the
    devices, and features [G, C], whole everywhere. G is a multiple of the devices, or 1: then all
    devices train the one model.
    """
    size = microbatch or step.default_microbatch(config.model.context)
    layout = step.state_sharding(config, optimizer, mesh)
    axes, place = tensors.logical_axes(bank.declare(config)), sharding.placement(mesh)
    sum_loss = objectives.make(objective, config.model).sum_loss
    # The device's own groups have whole banked parts; only other weights are gathered by layer.
    in_layers = dataclasses.replace(place, whole=config.parts)
    at_every_step = not isinstance(optimizer, bank_updates.Optimizer)

    def local_sums(axes: tensors.Tree, params: dict, batch: dict):
        def coefficients(mixer):
            return bank.coefficients(mixer, batch["features"], config)

        def exchanged(slices):
            return _exchanged(slices, axes["bank"], config, place)

        trained = narrow.widened(params["shared"])
        coefficients_GxSxh, to_mixer = jax.vjp(coefficients, params.get("mixer", {}))
        slices, to_bank = jax.vjp(bank.mix, params["bank"], coefficients_GxSxh)
        weights_G, to_slices = jax.vjp(exchanged, slices)
        groups = len(jax.tree.leaves(weights_G)[0])
        windows = {
            name: value.reshape(groups, -1, *value.shape[1:])
            for name, value in batch.items()
            if name != "features"
        }

        def loss(parts, micro):
            shared = _gather_outside(parts[0], axes["shared"], config, place)
            dense = bank.assemble(shared, parts[1], config)
            return sum_loss(dense, micro, (), in_layers)

        def group(total, part):
            banked, group_batch = part
            nll, grad_shared = total
            part_nll, (more_shared, grad_banked) = step.sum_gradients(
                loss, (trained, banked), group_batch, size
            )
            return (nll + part_nll, jax.tree.map(jnp.add, grad_shared, more_shared)), grad_banked

        if not 0 < size < len(batch["inputs"]):
            nll, (grad_shared, grad_banked_G) = _side_by_side(loss, trained, weights_G, windows)
        else:
            zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained))
            (nll, grad_shared), grad_banked_G = jax.lax.scan(group, zero, (weights_G, windows))
        (grad_slices,) = to_slices(grad_banked_G)
        grad_banked, grad_coefficients = to_bank(grad_slices)
        (grad_mixer,) = to_mixer(grad_coefficients)
        grads = {
            "shared": sharding.sum_parts(grad_shared, axes["shared"]),
            "bank": grad_banked if at_every_step else grad_slices,
            "mixer": jax.lax.psum(grad_mixer, sharding.AXES),
        }
        sums = (
            jax.lax.psum(nll, sharding.AXES),
            jax.lax.psum(jnp.sum(batch["mask"]), sharding.WINDOWS),
            {name: grads[name] for name in params},
        )
        if at_every_step:
            return sums
        square = bank_updates.square(grad_slices, coefficients_GxSxh)
        return *sums, jax.lax.psum(square, sharding.AXES), coefficients_GxSxh

    whole, split, specs = PartitionSpec(), sharding.spec(("batch",)), sharding.specs(axes)
    # Of projected weights by group, and of those of several steps.
    by_group, by_step = (
        jax.tree.map(
            lambda spec, leading=leading: PartitionSpec(*leading, spec[0], *spec[2:]),
            specs["bank"],
            is_leaf=lambda node: isinstance(node, PartitionSpec),
        )
        for leading in ((None,), (None, None))
    )
    grad_specs = specs if at_every_step else {**specs, "bank": by_group}
    spread = jax.shard_map(
        _spread,
        mesh=mesh,
        in_specs=(specs["bank"], by_step, whole),
        out_specs=specs["bank"],
        check_vma=False,
    )

    def train_step(state: TrainState, batch: dict):
        batch_specs = {name: whole if name == "features" else split for name in batch}
        rows = touched.of(config.model, batch["inputs"], state)
        named_axes = {**axes, "shared": rows.named_axes(axes["shared"])}
        shared = {"shared": sharding.specs(named_axes["shared"])}
        sums = jax.shard_map(
            partial(local_sums, named_axes),
            mesh=mesh,
            in_specs=({**specs, **shared}, batch_specs),
            out_specs=(whole, whole, {**grad_specs, **shared})
            + (() if at_every_step else (whole, whole)),
            check_vma=False,
        )
        part = rows.taken(state)
        params = {**part.params, "shared": rows.named(part.params["shared"])}
        nll, tokens, grads, *more = sums(params, batch)
        grads = {**grads, "shared": rows.unnamed(grads["shared"])}
        if at_every_step:
            after, metrics = step.update(part, optimizer, nll, tokens, grads)
        else:
            found = (nll, tokens, grads, *more)
            after, metrics = bank_updates.update(part, optimizer, spread, *found)
        return rows.put_back(state, after), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))


def _side_by_side(loss: Callable, shared, banked_G, windows_G):
    """(sum of `loss` over all groups, its gradients) with the groups as one batch."""

    def total(shared, banked_G):
        of_group = jax.vmap(lambda banked, windows: loss((shared, banked), windows))
        return jnp.sum(of_group(banked_G, windows_G))

    return jax.value_and_grad(total, argnums=(0, 1))(shared, narrow.widened(banked_G))


def _spread(banked, kept, coefficients_nxGxSxh: jax.Array):
    """The bank's gradient from those of the projected weights of several steps, {part:
    [n, G, S, ...]}: of this device's slices.
    """
    grads_G, coefficients_GxSxh = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (kept, coefficients_nxGxSxh)
    )
    return jax.vjp(lambda banked: bank.mix(banked, coefficients_GxSxh), banked)[1](grads_G)[0]


def _exchanged(slices, axes, config: bank.Config, place: Placement):
    """Slices of all groups' banked parts [G, S, ...] -> the whole ones of this device's own groups,
    {part: [g, S, ...]}.
    """
    leaves, tree = jax.tree.flatten(slices)
    names = jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
    # The divided axis of each, not counting that of h, whose place G has taken.
    places = tuple(next(i for i, n in enumerate(axes) if n in bank.DIVIDED) - 1 for axes in names)
    received = exchange(leaves, places, config.model.dtype)
    received = [
        _whole_bias(leaf, place.model) if "bank_bias" in axes else leaf
        for leaf, axes in zip(received, names, strict=True)
    ]
    return jax.tree.unflatten(tree, received)


def _gather_outside(
    shared: transformer.Params, axes: tensors.Tree, config: bank.Config, place: Placement
) -> transformer.Params:
    """The shared parameters with the banked parts of the layers outside of the bank gathered."""
    if not config.others:
        return shared
    parts, where = (
        {name: tree["layers"][name] for name in config.parts} for tree in (shared, axes)
    )
    gathered = place.gather(parts, where, config.model.dtype)
    return {**shared, "layers": {**shared["layers"], **gathered}}


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _whole_bias(part_GxSxD: jax.Array, devices: int) -> jax.Array:
    """A bias that is added to what the devices along `model` have summed: whole on each of them,
    and its gradient is too.
    """
    if devices == 1:
        return part_GxSxD
    return jax.lax.all_gather(part_GxSxD, sharding.MODEL, axis=2, tiled=True)


def _whole_bias_backward(devices, size, grad_GxSxD):
    if devices == 1:
        return (grad_GxSxD,)
    start = jax.lax.axis_index(sharding.MODEL) * size
    return (jax.lax.dynamic_slice_in_dim(grad_GxSxD, start, size, axis=2),)


_whole_bias.defvjp(
    lambda part, devices: (_whole_bias(part, devices), part.shape[2]), _whole_bias_backward
)
