"""Learning-rate schedules and optimisers, as published or as set.

The papers' models train with Adam at a constant rate after 1,000 steps of linear warm-up, clipped
at a global norm of 5 (arXiv 2402.01093); the local ones with AdamW on a cosine.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def schedule(train: ConfigDict, steps: int) -> optax.Schedule:
    """Step -> learning rate: linear warm-up, then constant, or constant up to the last
    `decay_fraction` of the steps and there a cosine down to `final_fraction` of the peak."""
    warmup = min(train.warmup_steps, max(steps // 2, 1))
    rate = optax.constant_schedule(train.learning_rate)
    # The first step already moves: rate / warmup rather than 0.
    ramp = optax.linear_schedule(train.learning_rate / warmup, train.learning_rate, warmup)
    if train.schedule == "constant":
        return optax.join_schedules([ramp, rate], [warmup])
    decay = max(min(round(train.decay_fraction * steps), steps - warmup), 1)
    cosine = optax.cosine_decay_schedule(train.learning_rate, decay, alpha=train.final_fraction)
    return optax.join_schedules([ramp, rate, cosine], [warmup, steps - decay])


def make(train: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam or AdamW (decay on matrices, not on norms and biases)."""
    rate = schedule(train, steps)
    slower = optax.masked(optax.scale(train.mixer_multiplier), _in_mixer)
    if train.optimizer == "adam":
        update = optax.adam(rate, b1=train.beta1, b2=train.beta2, mu_dtype=train.moment_dtype)
    else:
        update = optax.adamw(
            rate,
            b1=train.beta1,
            b2=train.beta2,
            mu_dtype=train.moment_dtype,
            weight_decay=train.weight_decay,
            mask=_decayed,
        )
    return optax.chain(optax.clip_by_global_norm(train.clip_norm), update, slower)


def _decayed(params):
    """True for matrices: by name, because stacked biases have two axes as well. A bank's mixer has
    coefficients around 1, not weights around 0: it is not decayed."""

    def is_matrix(path, leaf: jnp.ndarray) -> bool:
        name = jax.tree_util.keystr(path[-1:]).strip(".[]'\"")
        return not (_is_mixer(path) or name.endswith(("bias", "scale")) or leaf.ndim < 2)

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def _in_mixer(params):
    """True for what a bank's coefficients are computed with."""
    return jax.tree_util.tree_map_with_path(lambda path, _: _is_mixer(path), params)


def _is_mixer(path) -> bool:
    return any(getattr(key, "name", None) == "mixer" for key in path)
