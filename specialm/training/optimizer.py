"""Learning-rate schedules and optimizers, as published or as set.

The papers' models train with Adam at a constant rate after 1,000 steps of linear warm-up, clipped
at a global norm of 5 (arXiv 2402.01093); the local ones with AdamW on a cosine.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from specialm.models import tensors
from specialm.training import bank_updates, moments, muon, narrow


def _root(peak: float, steps: int, final: float) -> optax.Schedule:
    """Falls as 1 - sqrt (Haegele et al., arXiv 2405.18392, section 3)."""

    def rate(step):
        done = jnp.clip(step / steps, 0, 1)
        return peak * (1 - (1 - final) * jnp.sqrt(done))

    return rate


# train.schedule -> (peak, steps, last rate / peak) -> the decay; None for none
SCHEDULES: dict[str, Callable[[float, int, float], optax.Schedule] | None] = {
    "constant": None,
    "cosine": optax.cosine_decay_schedule,
    "linear": lambda peak, steps, final: optax.linear_schedule(peak, final * peak, steps),
    "root": _root,
}


def _warmup(train: ConfigDict, steps: int) -> int:
    return min(train.warmup_steps, max(steps // 2, 1))


def decay_start(train: ConfigDict, steps: int) -> int:
    """The steps before the learning rate decays, of so many; all of them if it does not. A decay
    over the whole training begins after the warm-up and ends with the last step.
    """
    if SCHEDULES[train.schedule] is None:
        return steps
    return steps - max(min(round(train.decay_fraction * steps), steps - _warmup(train, steps)), 1)


def schedule(train: ConfigDict, steps: int) -> optax.Schedule:
    """Step -> learning rate: linear warm-up (none for `warmup_steps` 0), then constant, or constant
    up to the last `decay_fraction` of the steps and there down to `final_fraction` of the peak.
    """
    warmup = _warmup(train, steps)
    parts, ends = [optax.constant_schedule(train.learning_rate)], []
    if warmup:
        # The first step already moves: rate / warmup rather than 0.
        ramp = optax.linear_schedule(train.learning_rate / warmup, train.learning_rate, warmup)
        parts, ends = [ramp, *parts], [warmup]
    decay, start = SCHEDULES[train.schedule], decay_start(train, steps)
    if decay is not None:
        parts.append(decay(train.learning_rate, steps - start, train.final_fraction))
        ends.append(start)
    return optax.join_schedules(parts, ends)


def _decayed(declared: tensors.Tree) -> Any:
    """A tree of bool: what weight decay applies to."""
    return tensors.map_tensors(lambda tensor: tensor.decay, declared)


def _by_adam(
    train: ConfigDict, declared: tensors.Tree
) -> tuple[optax.GradientTransformation, Callable]:
    """(Adam's directions, its state -> the first moment), moments kept as the settings say."""
    names = (train.moment_dtype, train.second_moment_dtype)
    if not (names[0] in moments.FIRST or names[1] in moments.SECOND):
        adam = optax.scale_by_adam(train.beta1, train.beta2, mu_dtype=train.moment_dtype)
        return adam, lambda state: state.mu
    plain = lambda declared: moments.Plain()  # noqa: E731
    first, second = (
        table.get(name, plain)(declared)
        for table, name in zip((moments.FIRST, moments.SECOND), names, strict=True)
    )
    adam = moments.scale_by_adam(train.beta1, train.beta2, first, second)
    return adam, lambda state: first.read(state.mu)


def _adam(
    train: ConfigDict, rate: optax.Schedule, declared: tensors.Tree
) -> optax.GradientTransformation:
    return optax.chain(_by_adam(train, declared)[0], optax.scale_by_learning_rate(rate))


def _adamw(
    train: ConfigDict, rate: optax.Schedule, declared: tensors.Tree
) -> optax.GradientTransformation:
    return optax.chain(
        _by_adam(train, declared)[0],
        optax.add_decayed_weights(train.weight_decay, _decayed(declared)),
        optax.scale_by_learning_rate(rate),
    )


def _muon(
    train: ConfigDict, rate: optax.Schedule, declared: tensors.Tree
) -> optax.GradientTransformation:
    """Muon for the linear maps of the layers, AdamW for all else; AdamW's learning rates hold."""
    adam, momentum = _by_adam(train, declared)
    return optax.chain(
        muon.scale_by_muon(adam, train.beta1, declared, momentum),
        optax.add_decayed_weights(train.weight_decay, _decayed(declared)),
        optax.scale_by_learning_rate(rate),
    )


# train.optimizer -> (settings, learning rate, declarations) -> the optimizer
OPTIMIZERS = {"adam": _adam, "adamw": _adamw, "muon": _muon}


def make(
    train: ConfigDict, steps: int, declared: tensors.Tree, groups: int = 0
) -> optax.GradientTransformation | bank_updates.Optimizer:
    """Clipping by global norm, then the optimizer.

    Weight decay and the learning rate's multiplier apply as each tensor's declaration says: decay
    on matrices, not on norms and biases; `mixer_multiplier` on what a bank's coefficients are
    computed with, which is not decayed (it is around 1, not 0); `table_multiplier` on tables of
    n-grams.

    Args:
      declared: the tree of `Tensor` of what is trained.
      groups: of a bank's batch, whose weights are updated every `train.bank_every` steps; 0 for
        what has no bank.
    """
    rate, every = schedule(train, steps), train.bank_every if groups else 1
    if every == 1:
        clip = optax.clip_by_global_norm(train.clip_norm)
        return _of_dtypes(train, optax.chain(clip, *_directions(train, rate, declared)))
    banked, rest = bank_updates.parted(declared)
    rarely = _directions(train, lambda count: rate(every * count + every - 1), banked)
    always = _directions(train, rate, rest)
    parts = (_of_dtypes(train, optax.chain(*each)) for each in (rarely, always))
    return bank_updates.Optimizer(every, groups, train.clip_norm, *parts)


def _directions(
    train: ConfigDict, rate: optax.Schedule, declared: tensors.Tree
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """(the optimizer, what it multiplies the updates of the mixer and of tables by)."""
    inner = OPTIMIZERS[train.optimizer](train, rate, declared)
    if train.second_moment_dtype == "bfloat16":
        inner = narrow.second_moment(inner)
    scaled = _scaled(train.mixer_multiplier, tensors.MIXER, declared)
    if train.table_multiplier != 1:  # else the state is that of earlier checkpoints
        scaled = optax.chain(scaled, _scaled(train.table_multiplier, tensors.TABLE, declared))
    return inner, scaled


def _scaled(factor: float, group: str, declared: tensors.Tree) -> optax.GradientTransformation:
    """The updates of a group times a factor."""
    inside = tensors.map_tensors(lambda tensor: tensor.group == group, declared)
    return optax.masked(optax.scale(factor), inside)


def _of_dtypes(
    train: ConfigDict, made: optax.GradientTransformation
) -> optax.GradientTransformation:
    return narrow.of_narrow(made) if train.param_dtype == "bfloat16" else made
