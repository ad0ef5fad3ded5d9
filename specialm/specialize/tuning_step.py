"""The fine-tuning step: any loss summed over tokens, any map from what is trained to parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from specialm.models import lora, tensors, transformer
from specialm.training import narrow, sharding, step, touched
from specialm.training.checkpoints import with_sharding
from specialm.training.objectives import Objective
from specialm.training.quantized import Rounding


@dataclass(frozen=True)
class ParameterMap:
    """What is trained, and how the model's parameters follow from it."""

    config: transformer.Config  # of the model
    start: Any  # the initial values of what is trained
    declared: tensors.Tree  # their declarations
    to_params: Callable  # (trained, fixed) -> transformer.Params
    flops_per_token: int  # of a training step on -log p
    fixed: Any = ()  # a tree of arrays that `to_params` needs and that nothing changes
    fixed_axes: Any = ()  # a tree like it, of logical axes
    adapters: lora.Config | None = None  # if these are what is trained
    rounding: Rounding | None = None  # if the parameters are trained for few bits
    # The map puts what is trained in its place and does nothing else: it is applied inside of the
    # loss, and what is fixed has no gradients.
    places: bool = False

    def stored(self, trained: Any, fixed: Any) -> transformer.Params:
        """The parameters as they are validated and kept."""
        params = self.to_params(trained, fixed)
        return self.rounding.stored(params) if self.rounding else params


def everything(config: transformer.Config, params: transformer.Params) -> ParameterMap:
    """All parameters are trained."""
    return ParameterMap(
        config,
        params,
        transformer.declare(config),
        lambda trained, _: narrow.widened(trained),
        transformer.flops_per_token(config, train=True),
    )


def low_rank(
    config: transformer.Config, params: transformer.Params, adapters: lora.Config, key: jax.Array
) -> ParameterMap:
    """LoRA adapters are trained, `params` stay as they are."""
    return ParameterMap(
        config,
        lora.init(params, config, adapters, key),
        lora.declare(config, adapters),
        lambda trained, base: lora.merge(base, trained, config, adapters),
        lora.flops_per_token(config, adapters),
        params,
        transformer.logical_axes(config),
        adapters,
    )


def state_sharding(trained: ParameterMap, optimizer, mesh) -> step.TrainState:
    """Shardings of a state: the moments lie like what they belong to."""
    where = sharding.shardings(mesh, tensors.logical_axes(trained.declared))
    moments = optax.tree_map_params(
        optimizer,
        lambda moment, place: sharding.fitted(place, moment.shape),
        jax.eval_shape(optimizer.init, trained.start),
        where,
        transform_non_params=lambda _: sharding.replicated(mesh),
    )
    return step.TrainState(sharding.replicated(mesh), where, moments)


def init_state(
    trained: ParameterMap, optimizer: optax.GradientTransformation, mesh: jax.sharding.Mesh
) -> step.TrainState:
    """The state at step 0, a copy of the initial values laid out on the mesh; its `params` are
    what is trained.
    """
    return jax.jit(_build(optimizer), out_shardings=state_sharding(trained, optimizer, mesh))(
        trained.start
    )


def abstract_state(trained: ParameterMap, optimizer, mesh) -> step.TrainState:
    """Shapes, dtypes and shardings of a state, to restore one to."""
    return with_sharding(
        jax.eval_shape(_build(optimizer), trained.start), state_sharding(trained, optimizer, mesh)
    )


def _build(optimizer) -> Callable:
    return lambda start: step.TrainState(jnp.zeros((), jnp.int32), start, optimizer.init(start))


def make_train_step(
    trained: ParameterMap,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    microbatch: int,
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    As in pretraining each device runs its windows `microbatch` at a time (0: all at once). The
    map is applied once a step, and the gradient of the parameters is taken back through it once,
    when the devices have summed it.
    """
    if trained.places:
        return _make_placed_step(trained, objective, optimizer, mesh, microbatch)

    def train_step(state: step.TrainState, fixed, batch: dict):
        map_fixed, loss_fixed = fixed
        is_rounded = trained.rounding is not None
        rows = touched.of(trained.config, batch["inputs"], state, is_rounded)
        part = rows.taken(state)
        params, to_trained = jax.vjp(lambda v: trained.to_params(v, map_fixed), part.params)
        if trained.rounding:
            params = trained.rounding.at(params, state.step)
        sums = step.make_sums(
            trained.config,
            mesh,
            objective.sum_loss,
            microbatch,
            objective.fixed_axes,
            rows.named_axes(transformer.logical_axes(trained.config)),
        )
        loss, tokens, grads = sums(rows.named(params), batch, loss_fixed)
        (grads,) = to_trained(rows.unnamed(grads))
        after, metrics = step.update(part, optimizer, loss, tokens, grads)
        return rows.put_back(state, after), metrics

    return _jitted(train_step, trained, objective, optimizer, mesh)


def _make_placed_step(trained, objective, optimizer, mesh, microbatch: int) -> Callable:
    """The step of a map that only places: what is trained alone is differentiated."""

    def sum_loss(part, batch: dict, fixed, place):
        map_fixed, loss_fixed = fixed
        return objective.sum_loss(trained.to_params(part, map_fixed), batch, loss_fixed, place)

    sums = step.make_sums(
        trained.config,
        mesh,
        sum_loss,
        microbatch,
        (trained.fixed_axes, objective.fixed_axes),
        tensors.logical_axes(trained.declared),
    )

    def train_step(state: step.TrainState, fixed, batch: dict):
        return step.update(state, optimizer, *sums(state.params, batch, fixed))

    return _jitted(train_step, trained, objective, optimizer, mesh)


def _jitted(train_step: Callable, trained, objective, optimizer, mesh) -> Callable:
    layout = state_sharding(trained, optimizer, mesh)
    jitted = jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))
    # An argument of the step, for a base model or a teacher is no constant to compile in.
    fixed = jax.device_put(
        (trained.fixed, objective.fixed),
        sharding.shardings(mesh, (trained.fixed_axes, objective.fixed_axes)),
    )
    return lambda state, batch: jitted(state, fixed, batch)
