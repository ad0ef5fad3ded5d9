"""The training step of a parameter bank: project, train every group as a dense model, update.

A batch is G groups of B/G windows, each with its features. The bank lies split over the devices
along d_ff. Each device computes its slice of every group's weights, the slices are exchanged, so
that a device holds the whole weights of its own groups only, and trains these groups as plain dense
models (`bank_groups`). The gradients go back the same way: the bank, h times larger than what is
projected, is neither gathered nor exchanged, and each device updates its part of it: at every step,
or every few (`bank_updates`).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from specialm.models import tensors
from specialm.models.families import bank
from specialm.training import bank_groups, bank_updates, narrow, objectives, sharding, step, touched
from specialm.training.exchange import compiler_options, in_rows
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
    devices, and features [G, C], whole everywhere. G is a multiple of the devices; or that of the
    rows of devices along `fsdp`, each of which then trains one group; or 1: then all devices train
    the one model.
    """
    size = microbatch or step.default_microbatch(config.model.context)
    layout = step.state_sharding(config, optimizer, mesh)
    axes, place = tensors.logical_axes(bank.declare(config)), sharding.placement(mesh)
    sum_loss = objectives.make(objective, config.model).sum_loss
    at_every_step = not isinstance(optimizer, bank_updates.Optimizer)

    def local_sums(axes: tensors.Tree, params: dict, batch: dict):
        def coefficients(mixer):
            return bank.coefficients(mixer, batch["features"], config)

        trained = narrow.widened(params["shared"])
        coefficients_GxSxh, to_mixer = jax.vjp(coefficients, params.get("mixer", {}))
        slices, to_bank = jax.vjp(bank.mix, params["bank"], coefficients_GxSxh)
        windows = {name: value for name, value in batch.items() if name != "features"}
        groups = bank_groups.Groups(config, axes, place, sum_loss, size)
        nll, grad_shared, grad_slices = groups.sums(trained, slices, windows)
        grad_banked, grad_coefficients = to_bank(grad_slices)
        (grad_mixer,) = to_mixer(grad_coefficients)
        grads = {
            "shared": sharding.sum_parts(grad_shared, axes["shared"]),
            "bank": jax.tree.map(in_rows, grad_banked if at_every_step else grad_slices),
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

    return jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=(layout, None),
        compiler_options=compiler_options(mesh),
    )


def _spread(banked, kept, coefficients_nxGxSxh: jax.Array):
    """The bank's gradient from those of the projected weights of several steps, {part:
    [n, G, S, ...]}: of this device's slices.
    """
    grads_G, coefficients_GxSxh = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (kept, coefficients_nxGxSxh)
    )
    grads = jax.vjp(lambda banked: bank.mix(banked, coefficients_GxSxh), banked)[1](grads_G)[0]
    return jax.tree.map(in_rows, grads)
