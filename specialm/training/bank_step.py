"""The training step of a parameter bank: project, train every group as a dense model, update.

A batch is G groups of B/G windows, each with its features. The bank lies split over the devices
along d_ff. Each device computes its slice of every group's weights, the slices are exchanged, so
that a device holds the whole weights of its own groups only, and trains these groups one after the
other as plain dense models. The gradients go back the same way: the bank, h times larger than what
is projected, is neither gathered nor exchanged, and each device updates its part of it.

Letters: G groups, B batch, L context, C features.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from specialm.models import bank, tensors, transformer
from specialm.models.placement import Placement
from specialm.training import sharding, step
from specialm.training.exchange import exchange
from specialm.training.step import TrainState

BANKED = ("bank", "bank_bias")  # logical axes that a bank is divided along
MLP = tuple(bank.Mlp.__dataclass_fields__)


def make_train_step(
    config: bank.Config,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    microbatch: int = 0,
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    Args:
      microbatch: windows at a time on a device; 0 chooses.

    The batch has inputs, targets, mask [B, L] in the order of their groups, split over the
    devices, and features [G, C], whole everywhere. G is a multiple of the devices, or 1: then all
    devices train the one model.
    """
    size = microbatch or step.default_microbatch(config.model.context)
    layout = step.state_sharding(config, optimizer, mesh)
    axes, place = tensors.logical_axes(bank.declare(config)), sharding.placement(mesh)
    dtype, sum_nll = config.model.dtype, step.sum_nll(config.model)
    places = tuple(
        next(i for i, name in enumerate(getattr(axes.mlp, field)) if name in BANKED) - 1
        for field in MLP
    )
    # The device's own groups have whole MLPs; only the other weights are gathered layer by layer.
    in_layers = dataclasses.replace(place, whole=MLP)

    def local_sums(params: bank.Bank, batch: dict):
        def projected(mlp, mixer):
            slices = bank.mix(mlp, bank.coefficients(mixer, batch["features"], config))
            made = exchange([getattr(slices, field) for field in MLP], places, dtype)
            made = bank.Mlp(**dict(zip(MLP, made, strict=True)))
            return made.replace(down_bias=_whole_bias(made.down_bias, place.model))

        weights_G, back = jax.vjp(projected, params.mlp, params.mixer)
        groups = len(jax.tree.leaves(weights_G)[0])
        windows = {
            name: value.reshape(groups, -1, *value.shape[1:])
            for name, value in batch.items()
            if name != "features"
        }

        def group(total, part):
            mlp, group_batch = part

            def loss(trained, micro):
                shared, mlp = trained
                dense = bank.assemble(_whole_mlps(shared, axes.shared, place, dtype), mlp, config)
                return sum_nll(dense, micro, (), in_layers)

            nll, grad_shared = total
            part_nll, (more_shared, grad_mlp) = step.sum_gradients(
                loss, (params.shared, mlp), group_batch, size
            )
            return (nll + part_nll, jax.tree.map(jnp.add, grad_shared, more_shared)), grad_mlp

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params.shared))
        (nll, grad_shared), grad_mlp_G = jax.lax.scan(group, zero, (weights_G, windows))
        grad_mlp, grad_mixer = back(grad_mlp_G)
        return (
            jax.lax.psum(nll, sharding.AXES),
            jax.lax.psum(jnp.sum(batch["mask"]), sharding.WINDOWS),
            bank.Bank(
                sharding.sum_parts(grad_shared, axes.shared),
                grad_mlp,
                jax.lax.psum(grad_mixer, sharding.AXES),
            ),
        )

    whole, split, specs = PartitionSpec(), sharding.spec(("batch",)), sharding.specs(axes)
    batch_specs = {"inputs": split, "targets": split, "mask": split, "features": whole}
    sums = jax.shard_map(
        local_sums,
        mesh=mesh,
        in_specs=(specs, batch_specs),
        out_specs=(whole, whole, specs),
        check_vma=False,
    )

    def train_step(state: TrainState, batch: dict):
        return step.update(state, optimizer, *sums(state.params, batch))

    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))


def _whole_mlps(
    shared: transformer.Params, axes: transformer.Params, place: Placement, dtype: str
) -> transformer.Params:
    """The shared parameters with the MLPs of the layers outside of the bank gathered."""
    names = [name for name in MLP if getattr(shared.layers, name) is not None]
    parts, where = ({name: getattr(tree.layers, name) for name in names} for tree in (shared, axes))
    return shared.replace(layers=shared.layers.replace(**place.gather(parts, where, dtype)))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _whole_bias(part_GxSxD: jax.Array, devices: int) -> jax.Array:
    """A bias that is added to what the devices along `model` have summed: whole on each of them,
    and its gradient is too."""
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
