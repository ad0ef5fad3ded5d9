"""The training step of any model, by its config."""

from collections.abc import Callable

import jax
import optax

from specialm.models import families, tensors
from specialm.training import bank_step, layout, mixture_step, sharding, step
from specialm.training.quantized import Rounding

STEPS: dict[str, Callable[..., Callable]] = {
    families.DENSE: step.make_train_step,
    families.BANK: bank_step.make_train_step,
    families.MIXTURE: mixture_step.make_train_step,
}


def make_train_step(
    config: families.Config,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    microbatch: int = 0,
    objective: str = "next_token",
    rounding: Rounding | None = None,
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}): see the steps of each kind.

    Args:
      rounding: of a dense model's weights.

    Raises:
      UserError: the model's sizes do not divide over the devices.
    """
    sharding.check(
        mesh,
        tensors.abstract(families.declare(config)),
        tensors.logical_axes(families.declare(config)),
    )
    layout.check_tokens(mesh.shape, (microbatch or 1) * families.dense(config).context)
    more = {"rounding": rounding} if rounding else {}  # which the dense step alone has
    return STEPS[families.kind(config)](config, optimizer, mesh, microbatch, objective, **more)


def check_batch(
    config: families.Config, mesh: jax.sharding.Mesh, batch_size: int, groups: int = 1
) -> None:
    """Raises UserError for a batch that does not divide over the mesh.

    Args:
      groups: of a bank's batch.
    """
    experts = config.num_experts if isinstance(config, families.mixture.Config) else 0
    layout.check_batch(mesh.shape, batch_size, groups, experts)
