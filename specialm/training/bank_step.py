"""The training step of a parameter bank: project, train every group as a dense model, update.

A batch is G groups of B/G windows, each with its features. The bank lies split over the devices
along d_ff. Each device computes its slice of every group's weights, the slices are exchanged, so
that a device holds the whole weights of its own groups only, and trains these groups one after the
other as plain dense models. The gradients go back the same way: the bank, h times larger than what
is projected, is neither gathered nor exchanged, and each device updates its part of it.

Letters: G groups, B batch, L context, C features.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from specialm.models import bank, tensors, transformer
from specialm.training import sharding, step
from specialm.training.step import TrainState


def make_train_step(config: bank.Config, optimizer: optax.GradientTransformation,
                    mesh: jax.sharding.Mesh, microbatch: int = 0) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    Args:
      microbatch: windows at a time on a device; 0 chooses.

    The batch has inputs, targets, mask [B, L] in the order of their groups, split over the
    devices, and features [G, C], whole everywhere. G is a multiple of the devices, or 1: then all
    devices train the one model.
    """
    size = microbatch or step.default_microbatch(config.model.context)
    layout = step.state_sharding(config, optimizer, mesh)
    axes = tensors.logical_axes(bank.declare(config))
    places = jax.tree.map(lambda names: names.index("bank") - 1, axes.mlp,
                          is_leaf=lambda node: isinstance(node, tuple))
    specs = jax.tree.map(sharding.spec, axes, is_leaf=lambda node: isinstance(node, tuple))

    def exchange(leaf: jax.Array, place: int) -> jax.Array:
        """Slices of all G groups -> whole weights of this device's groups."""
        if len(leaf) == 1:
            return jax.lax.all_gather(leaf, "data", axis=place + 1, tiled=True)
        return jax.lax.all_to_all(leaf, "data", split_axis=0, concat_axis=place + 1, tiled=True)

    def local_sums(params: bank.Bank, batch: dict):
        def projected(mlp, mixer):
            slices = bank.mix(mlp, bank.coefficients(mixer, batch["features"], config))
            return jax.tree.map(exchange, slices, places)

        weights_G, back = jax.vjp(projected, params.mlp, params.mixer)
        groups = len(jax.tree.leaves(weights_G)[0])
        windows = {name: value.reshape(groups, -1, *value.shape[1:])
                   for name, value in batch.items() if name != "features"}

        def group(total, part):
            mlp, group_batch = part

            def sum_nll(shared, mlp, micro):
                dense = bank.assemble(shared, mlp, config)
                return transformer.sum_nll(dense, micro["inputs"], micro["targets"],
                                           micro["mask"], config.model)

            def add(sums, micro):
                made = jax.value_and_grad(sum_nll, argnums=(0, 1))(params.shared, mlp, micro)
                return jax.tree.map(jnp.add, sums, made), None

            nll, grad_shared = total
            zero = (nll, (grad_shared, jax.tree.map(jnp.zeros_like, mlp)))
            parts = step.split_windows(group_batch, size)
            (nll, (grad_shared, grad_mlp)), _ = jax.lax.scan(add, zero, parts)
            return (nll, grad_shared), grad_mlp

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params.shared))
        (nll, grad_shared), grad_mlp_G = jax.lax.scan(group, zero, (weights_G, windows))
        grad_mlp, grad_mixer = back(grad_mlp_G)
        nll, tokens, grad_shared, grad_mixer = jax.lax.psum(
            (nll, jnp.sum(batch["mask"]), grad_shared, grad_mixer), "data")
        return nll, tokens, bank.Bank(grad_shared, grad_mlp, grad_mixer)

    whole, split = PartitionSpec(), sharding.spec(("batch",))
    batch_specs = {"inputs": split, "targets": split, "mask": split, "features": whole}
    sums = jax.shard_map(local_sums, mesh=mesh, in_specs=(specs, batch_specs),
                         out_specs=(whole, whole, specs), check_vma=False)

    def train_step(state: TrainState, batch: dict):
        return step.update(state, optimizer, *sums(state.params, batch))

    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))
