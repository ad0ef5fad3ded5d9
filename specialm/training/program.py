"""The training step of any model, by its config."""

from collections.abc import Callable

import jax
import optax

from specialm.errors import UserError
from specialm.models import bank, families, mixture
from specialm.training import bank_step, mixture_step, step


def make_train_step(config: families.Config, optimizer: optax.GradientTransformation,
                    mesh: jax.sharding.Mesh, microbatch: int = 0) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}): see the steps of each kind.

    Raises:
      UserError: the model's sizes do not divide over the devices.
    """
    if isinstance(config, bank.Config):
        for name in ("d_ff", "d_model"):
            _divides(f"model.{name}", getattr(config.model, name), mesh)
        return bank_step.make_train_step(config, optimizer, mesh, microbatch)
    if isinstance(config, mixture.Config):
        _divides("model.num_experts", config.num_experts, mesh)
        return mixture_step.make_train_step(config, optimizer, mesh, microbatch)
    return step.make_train_step(config, optimizer, mesh, microbatch)


def _divides(name: str, value: int, mesh: jax.sharding.Mesh) -> None:
    if value % mesh.size:
        raise UserError(f"{name}={value} is not a multiple of the {mesh.size} devices.")
