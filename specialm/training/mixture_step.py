"""The training step of a hard mixture: every expert takes one step of its own on its own windows.

The experts are spread over the devices and do not communicate.

Letters: B batch, k experts.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from specialm.models import mixture
from specialm.training import sharding, step
from specialm.training.step import TrainState


def make_train_step(config: mixture.Config, optimizer: optax.GradientTransformation,
                    mesh: jax.sharding.Mesh, microbatch: int = 0) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    The batch has B/k windows for each expert, in the order of the experts; loss and gradient norm
    are the experts' means. An expert takes exactly the step of a dense model on its windows.
    """
    layout = step.state_sharding(config, optimizer, mesh)
    size = microbatch or step.default_microbatch(config.model.context)
    axis, devices, sum_nll = "data", mesh.size, step.sum_nll(config.model)

    def train_experts(state: TrainState, batch: dict):
        def train(_, expert):
            params, moments, windows = expert
            nll, grads = step.sum_gradients(sum_nll, params, windows, size)
            before = TrainState(state.step, params, moments)
            after, metrics = step.update(before, optimizer, nll, jnp.sum(windows["mask"]), grads)
            return None, (after.params, after.optimizer, metrics)

        windows = {name: value.reshape(config.num_experts // devices, -1, value.shape[-1])
                   for name, value in batch.items()}
        _, (params, moments, metrics) = jax.lax.scan(
            train, None, (state.params, state.optimizer, windows))
        means = jax.lax.pmean(jax.tree.map(jnp.mean, metrics), axis)
        return TrainState(state.step + 1, params, moments), means

    whole, experts = PartitionSpec(), sharding.spec(("expert",))
    states = TrainState(whole, experts, experts)
    train_step = jax.shard_map(train_experts, mesh=mesh, in_specs=(states, experts),
                               out_specs=(states, whole), check_vma=False)
    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))
