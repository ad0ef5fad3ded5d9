"""The training step of any model, by its config."""

from collections.abc import Callable

import jax
import optax

from specialm.common.errors import UserError
from specialm.models import families, tensors
from specialm.training import bank_step, mixture_step, sharding, step

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
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}): see the steps of each kind.

    Raises:
      UserError: the model's sizes do not divide over the devices.
    """
    sharding.check(
        mesh,
        tensors.abstract(families.declare(config)),
        tensors.logical_axes(families.declare(config)),
    )
    tokens = (microbatch or 1) * families.dense(config).context
    if tokens % mesh.shape[sharding.MODEL]:
        raise UserError(
            f"mesh.model={mesh.shape[sharding.MODEL]} does not divide the {tokens} "
            "tokens that a device works on at a time (data.context)."
        )
    return STEPS[families.kind(config)](config, optimizer, mesh, microbatch, objective)


def check_batch(
    config: families.Config, mesh: jax.sharding.Mesh, batch_size: int, groups: int = 1
) -> None:
    """Raises UserError for a batch that does not divide over the mesh.

    Args:
      groups: of a bank's batch.
    """
    copies = sharding.parts(mesh, "batch")
    if batch_size % copies:
        raise UserError(
            f"train.batch_size={batch_size} is not a multiple of the {copies} devices "
            "that windows are divided over."
        )
    if groups > 1 and groups % copies:
        raise UserError(
            f"train.groups={groups} is not a multiple of the {copies} devices that "
            "windows are divided over (1 would do)."
        )
    if isinstance(config, families.mixture.Config):
        windows = batch_size // config.num_experts
        each = copies // mesh.shape[sharding.EXPERT]
        if windows % each:
            raise UserError(
                f"train.batch_size={batch_size}: an expert's {windows} windows do not divide over "
                f"the {each} devices that train it; set mesh.expert to a larger divisor "
                f"of model.num_experts={config.num_experts}."
            )
