"""The training step of a hard mixture: every expert takes one step of its own on its own windows.

The experts are spread over the axis `expert` and do not communicate; the copies of one expert along
`data` and `fsdp` exchange its gradients as those of a dense model do. A device trains its experts
one after the other, or side by side where all of its windows are run at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from specialm.models import tensors, transformer
from specialm.models.families import mixture
from specialm.training import objectives, sharding, step
from specialm.training.step import TrainState

COPIES = (sharding.DATA, sharding.FSDP)  # of an expert, with windows of their own


def make_train_step(
    config: mixture.Config,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    microbatch: int = 0,
    objective: str = "next_token",
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    Args:
      microbatch: windows at a time on a device; 0 chooses. With all of them, the choice of
        accelerators, the experts go side by side; one after the other keeps to a CPU's caches,
        whose choice it is however few the windows are.
      objective: one of `objectives.OBJECTIVES`.

    The batch has B/k windows for each expert, in the order of the experts; loss and gradient norm
    are the experts' means. An expert takes exactly the step of a dense model on its windows.
    """
    layout = step.state_sharding(config, optimizer, mesh)
    size = microbatch or step.default_microbatch(config.model.context)
    place, sum_loss = sharding.placement(mesh), objectives.make(objective, config.model).sum_loss
    axes = transformer.logical_axes(config.model)

    def local_sums(params, windows: dict):
        def one(params, batch):
            nll, grads = step.sum_gradients(
                lambda params, part: sum_loss(params, part, (), place), params, batch, size
            )
            return (
                jax.lax.psum(nll, (*COPIES, sharding.MODEL)),
                jax.lax.psum(jnp.sum(batch["mask"]), COPIES),
                sharding.sum_parts(grads, axes, COPIES),
            )

        experts, each = windows["mask"].shape[:2]
        if not size or microbatch >= experts * each:
            return jax.vmap(one)(params, windows)
        return jax.lax.scan(lambda _, expert: (None, one(*expert)), None, (params, windows))[1]

    specs = sharding.specs(tensors.logical_axes(mixture.declare(config)))
    by_expert, windows = sharding.spec(("expert",)), PartitionSpec(sharding.EXPERT, COPIES)
    sums = jax.shard_map(
        local_sums,
        mesh=mesh,
        in_specs=(specs, windows),
        out_specs=(by_expert, by_expert, specs),
        check_vma=False,
    )

    def one_update(number, params, moments, nll, tokens, grads):
        before = TrainState(number, params, moments)
        after, metrics = step.update(before, optimizer, nll, tokens, grads)
        return after.params, after.optimizer, metrics

    def train_step(state: TrainState, batch: dict):
        k = config.num_experts
        windows = {name: value.reshape(k, -1, *value.shape[1:]) for name, value in batch.items()}
        params, moments, metrics = jax.vmap(one_update, in_axes=(None, 0, 0, 0, 0, 0))(
            state.step, state.params, state.optimizer, *sums(state.params, windows)
        )
        return TrainState(state.step + 1, params, moments), jax.tree.map(jnp.mean, metrics)

    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))
