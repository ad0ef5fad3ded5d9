"""The training state of any model; the training step and the scoring step of the dense one."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding

from specialm.models import families, tensors, transformer
from specialm.models.target import platform
from specialm.training import bank_updates, narrow, objectives, pseudo, sharding, touched
from specialm.training.quantized import Rounding


@flax.struct.dataclass
class TrainState:
    """All that a training run changes: saved and restored whole."""

    step: Any  # int32 []; like the other fields a shape or a sharding where a state is described
    params: Any
    optimizer: optax.OptState  # of a mixture with a leading axis over the experts


def init_state(
    config: families.Config,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    key: jax.Array | None = None,
    params: Any = None,
    dense: transformer.Params | None = None,
    constants: dict[str, Any] | None = None,
    dtype: str = "float32",
) -> TrainState:
    """A state at step 0, laid out on the mesh: with fresh parameters from `key`, or `params`.

    Args:
      dense: a dense model that all experts start as, with what else there is from `key`.
      constants: see `tensors.init`.
      dtype: of matrices.
    """
    declared = families.declare(config)

    def build(given, dense):
        start = given
        if dense is not None:
            start = families.from_dense(config, dense, key)
        elif given is None:
            start = tensors.init(declared, key, constants)
        start = tensors.cast(declared, start, dtype)
        return TrainState(jnp.zeros((), jnp.int32), start, _init(config, optimizer)(start))

    layout = state_sharding(config, optimizer, mesh)
    return jax.jit(build, out_shardings=layout)(params, dense)


def _init(config: families.Config, optimizer) -> Callable:
    """Every expert of a mixture has an optimizer state of its own."""
    is_mixture = families.kind(config) == families.MIXTURE
    return jax.vmap(optimizer.init) if is_mixture else optimizer.init


def abstract_state(config: families.Config, optimizer, dtype: str = "float32") -> TrainState:
    """Shapes and dtypes of a state; nothing is allocated.

    Args:
      dtype: of matrices.
    """
    params = tensors.abstract(families.declare(config), dtype)
    return TrainState(
        jax.ShapeDtypeStruct((), jnp.int32),
        params,
        jax.eval_shape(_init(config, optimizer), params),
    )


def state_sharding(config: families.Config, optimizer, mesh) -> TrainState:
    """Shardings of a state: the moments lie like the parameters they belong to, what is kept of
    them in fewer bytes as far as it divides.
    """
    params = sharding.shardings(mesh, tensors.logical_axes(families.declare(config)))
    whole = abstract_state(config, optimizer)
    rest = ("expert",) if families.kind(config) == families.MIXTURE else ()

    def like_params(optimizer: optax.GradientTransformation, state: Any, params: Any) -> Any:
        return optax.tree_map_params(
            optimizer,
            lambda moment, where: sharding.fitted(where, moment.shape),
            state,
            params,
            transform_non_params=lambda _: NamedSharding(mesh, sharding.spec(rest)),
        )

    if isinstance(optimizer, bank_updates.Optimizer):
        moments = optimizer.shardings(params, whole.optimizer, like_params)
    else:
        moments = like_params(optimizer, whole.optimizer, params)
    return TrainState(sharding.replicated(mesh), params, moments)


def make_train_step(
    config: transformer.Config,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
    microbatch: int = 0,
    objective: str = "next_token",
    rounding: Rounding | None = None,
) -> Callable:
    """(state, batch) -> (state, {"loss", "grad_norm"}); the old state's memory is reused.

    The loss is the mean nats over the tokens that the mask counts, over the whole batch. Each
    device runs its windows `microbatch` at a time and adds up the gradients, so that memory does
    not grow with the batch; the sums are exchanged once, at the end.

    Args:
      microbatch: windows at a time on a device; 0 chooses (see `default_microbatch`).
      objective: one of `objectives.OBJECTIVES`.
      rounding: of the weights that the loss is computed of, if they are trained for few bits.
    """
    layout = state_sharding(config, optimizer, mesh)
    size = microbatch or default_microbatch(config.context)
    sum_loss, axes = objectives.make(objective, config).sum_loss, transformer.logical_axes(config)

    def train_step(state: TrainState, batch: dict):
        rows = touched.of(config, batch["inputs"], state, rounding is not None)
        part = rows.taken(state)
        params = rounding.at(part.params, state.step) if rounding else part.params
        sums = make_sums(config, mesh, sum_loss, size, axes=rows.named_axes(axes))
        nll, tokens, grads = sums(rows.named(params), batch, ())
        after, metrics = update(part, optimizer, nll, tokens, rows.unnamed(grads))
        return rows.put_back(state, after), metrics

    return jax.jit(train_step, donate_argnums=0, out_shardings=(layout, None))


def make_sums(
    config: transformer.Config,
    mesh: jax.sharding.Mesh,
    sum_loss: Callable,
    size: int,
    fixed_axes: Any = (),
    axes: Any = None,
) -> Callable:
    """(params, batch, fixed) -> (sum of a loss, tokens, gradients) over the whole batch.

    Each device runs its windows `size` at a time; what has to be exchanged between copies of the
    model is exchanged once, at the end.

    Args:
      sum_loss: (params, batch, fixed, place) -> the sum over a part of the batch, of this device's
        share of the tokens.
      fixed_axes: logical axes of what `sum_loss` needs besides.
      axes: those of `params`, if they are not all of the model's.
    """
    axes = transformer.logical_axes(config) if axes is None else axes
    place = sharding.placement(mesh)

    def local_sums(params: transformer.Params, batch: dict, fixed):
        total, grads = sum_gradients(
            lambda params, part: sum_loss(params, part, fixed, place), params, batch, size
        )
        return (
            jax.lax.psum(total, sharding.AXES),
            jax.lax.psum(jnp.sum(batch["mask"]), sharding.WINDOWS),
            sharding.sum_parts(grads, axes),
        )

    whole, split = jax.sharding.PartitionSpec(), sharding.spec(("batch",))
    params = sharding.specs(axes)
    return jax.shard_map(
        local_sums,
        mesh=mesh,
        check_vma=False,
        in_specs=(params, split, sharding.specs(fixed_axes)),
        out_specs=(whole, whole, params),
    )


def sum_gradients(sum_loss: Callable, params: Any, batch: dict, size: int):
    """(sum, its gradient) of `sum_loss(params, windows)` over a batch, `size` windows at a time;
    float32, whatever the parameters are.
    """
    params, sums = narrow.widened(params), jax.value_and_grad(sum_loss)

    def add(total, part):
        return jax.tree.map(jnp.add, total, sums(params, part)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, zero, split_windows(batch, size))[0]


def update(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    nll: jax.Array,
    tokens: jax.Array,
    grads: Any,
) -> tuple[TrainState, dict]:
    """The next state and the metrics, from sums over the batch."""
    tokens = jnp.maximum(tokens, 1.0)
    grads = jax.tree.map(lambda grad: grad / tokens, grads)
    before = narrow.widened(state.params)
    updates, moments = optimizer.update(grads, state.optimizer, before)
    params = narrow.like(optax.apply_updates(before, updates), state.params, state.step)
    metrics = {"loss": nll / tokens, "grad_norm": optax.global_norm(grads)}
    return TrainState(state.step + 1, params, moments), metrics


def default_microbatch(context: int) -> int:
    """Windows at a time: as many as keep the activations in a core's cache on a CPU (about 512
    tokens, by `benchmarks.step`); on accelerators all of them (0).
    """
    return max(1, 512 // context) if platform() == "cpu" else 0


def split_windows(batch: dict, size: int) -> dict:
    """[B, L] -> [B / size, size, L]: parts of a batch that run one after the other. The
    largest divisor of B that is at most `size` is taken.
    """
    count = len(batch["inputs"])
    size = max(d for d in range(1, count + 1) if count % d == 0 and d <= (size or count))
    return {name: value.reshape(-1, size, *value.shape[1:]) for name, value in batch.items()}


def make_score_step(
    config: transformer.Config, mesh: jax.sharding.Mesh, turns: int = 0
) -> Callable:
    """(params, batch) -> float32 [B], whole everywhere: the sum of nats of each window's tokens.

    Args:
      turns: of a model that is not causal, see `pseudo.token_nll`; 0 hides one token at a time.
    """
    size = default_microbatch(config.context)
    place, axes = sharding.placement(mesh), transformer.logical_axes(config)

    def local_scores(params: transformer.Params, batch: dict) -> jax.Array:
        def windows(part):
            if config.causal:
                nll_BxL = transformer.token_nll(
                    params, part["inputs"], part["targets"], config, place, part["mask"]
                )
            else:
                nll_BxL = pseudo.token_nll(
                    params, part["targets"], part["mask"], config, place, turns
                )
            return jnp.sum(nll_BxL * part["mask"], axis=1)

        return jax.lax.map(windows, split_windows(batch, size)).reshape(-1)

    split = sharding.spec(("batch",))
    scores = jax.shard_map(
        local_scores,
        mesh=mesh,
        check_vma=False,
        out_specs=split,
        in_specs=(sharding.specs(axes), split),
    )
    return jax.jit(scores, out_shardings=sharding.replicated(mesh))
