"""The training step and the scoring step, jitted and sharded.

Letters: B batch, L context.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from specialm.models import transformer
from specialm.training import sharding


@flax.struct.dataclass
class TrainState:
    """All that a training run changes: saved and restored whole."""

    step: jax.Array  # int32 []
    params: transformer.Params
    optimizer: optax.OptState


def init_state(config: transformer.Config, optimizer: optax.GradientTransformation,
               mesh: jax.sharding.Mesh, key: jax.Array | None = None,
               params: transformer.Params | None = None) -> TrainState:
    """A state at step 0, laid out on the mesh: with fresh parameters from `key`, or `params`."""
    def build(given):
        made = transformer.init(config, key) if given is None else given
        return TrainState(jnp.zeros((), jnp.int32), made, optimizer.init(made))

    layout = state_sharding(config, optimizer, mesh)
    return jax.jit(build, out_shardings=layout)(params)


def abstract_state(config: transformer.Config, optimizer) -> TrainState:
    """Shapes and dtypes of a state; nothing is allocated."""
    params = transformer.abstract(config)
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), params,
                      jax.eval_shape(optimizer.init, params))


def state_sharding(config: transformer.Config, optimizer, mesh) -> TrainState:
    """Shardings of a state: the moments lie like the parameters they belong to."""
    params = sharding.shardings(mesh, transformer.logical_axes(config))
    whole = abstract_state(config, optimizer)
    moments = optax.tree_map_params(
        optimizer, lambda _, where: where, whole.optimizer, params,
        transform_non_params=lambda _: sharding.replicated(mesh))
    return TrainState(sharding.replicated(mesh), params, moments)


def make_train_step(config: transformer.Config, optimizer: optax.GradientTransformation,
                    mesh: jax.sharding.Mesh) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    The loss is the mean nats over the tokens that the mask counts, over the whole batch.
    """
    layout = state_sharding(config, optimizer, mesh)

    def train_step(state: TrainState, batch: dict):
        loss, grads = jax.value_and_grad(transformer.loss)(
            state.params, batch["inputs"], batch["targets"], batch["mask"], config)
        updates, moments = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, moments), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))


def make_score_step(config: transformer.Config) -> Callable:
    """(params, batch) -> (float32 [B] sum of nats of each window's tokens)."""
    def score_step(params: transformer.Params, batch: dict) -> jax.Array:
        nll_BxL = transformer.token_nll(params, batch["inputs"], batch["targets"], config)
        return jnp.sum(nll_BxL * batch["mask"], axis=1)

    return jax.jit(score_step)
