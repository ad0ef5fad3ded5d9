"""A bank's weights updated every few steps, on the mean of the gradients of these steps; all else
(what is shared, and the mixer that coefficients are computed with) at every step.

A bank's gradient is that of the projected weights of G groups, spread by their coefficients (the
transpose of `bank.mix`):

    dT[r] = sum_g c[g, r] dW[g]

Kept between updates are dW and c of each step, n G / h of the bank's size, of which a step writes
its part once: a sum of the bank's size would be read and written at every step, and so would the
gradients that are added to it. A step without an update reads the bank's weights and nothing else
of its size. Each step's gradient is clipped as ever, by the norm of all gradients of the step: the
bank's follows from products of dW with one another (`square`).

The bank's optimizer counts its own updates; the learning rate is that of the step of the update.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from specialm.training import narrow

BANK = "bank"  # in the parameters of a bank


class State(NamedTuple):
    """Saved and restored whole, so that training goes on between two updates too."""

    bank: optax.OptState
    rest: optax.OptState
    kept: Any  # {part: [n, G, S, ...]}: gradients of projected weights, by step
    coefficients_nxGxSxh: Any  # times the weight of the step's gradient in the mean


@dataclass(frozen=True)
class Optimizer:
    """In the place of an optax optimizer of a bank's parameters; clipping is `update`'s."""

    every: int
    groups: int
    clip_norm: float
    bank: optax.GradientTransformation
    rest: optax.GradientTransformation

    def init(self, params: Any) -> State:
        """Nothing kept yet."""
        banked, rest = parted(params)

        def none(leaf: jax.Array) -> jax.Array:
            shape = (self.every, self.groups, leaf.shape[0], *leaf.shape[2:])
            return jnp.zeros(shape, jnp.promote_types(leaf.dtype, jnp.float32))

        kept = jax.tree.map(none, banked)
        sizes = (self.every, self.groups, *jax.tree.leaves(banked)[0].shape[:2])
        coefficients = jnp.zeros(sizes, jax.tree.leaves(kept)[0].dtype)
        return State(self.bank.init(banked), self.rest.init(rest), kept, coefficients)

    def shardings(self, params: Any, abstract: State, like_params: Callable) -> State:
        """Where a state lies.

        Args:
          params: shardings of the parameters.
          like_params: (optimizer, its abstract state, shardings of its parameters) -> of the state.
        """
        banked, rest = parted(params)
        mesh = jax.tree.leaves(banked)[0].mesh

        def by_step(where: NamedSharding) -> NamedSharding:
            layers, _, *others = where.spec
            return NamedSharding(mesh, PartitionSpec(None, None, layers, *others))

        return State(
            like_params(self.bank, abstract.bank, banked),
            like_params(self.rest, abstract.rest, rest),
            jax.tree.map(by_step, banked),
            NamedSharding(mesh, PartitionSpec()),
        )


def parted(tree: dict) -> tuple[Any, dict]:
    """(of the bank, all else)."""
    return tree[BANK], {name: part for name, part in tree.items() if name != BANK}


def square(slices: Any, coefficients_GxSxh: jax.Array) -> jax.Array:
    """The squared norm of the bank's gradient, of this device's part of it:
    sum_{f,g} (c[f] . c[g]) (dW[f] . dW[g]) in each layer.

    Args:
      slices: {part: [G, S, ...]}, gradients of projected weights.
    """
    alike_SxGxG = jnp.einsum("fsr,gsr->sfg", coefficients_GxSxh, coefficients_GxSxh)
    total = jnp.zeros((), coefficients_GxSxh.dtype)
    for leaf in jax.tree.leaves(slices):
        for s, alike_GxG in enumerate(alike_SxGxG):
            grads_Gxw = leaf[:, s].reshape(len(leaf), -1)
            total += jnp.sum(alike_GxG * (grads_Gxw @ grads_Gxw.T))
    return jnp.maximum(total, 0)


def update(
    state: Any,
    optimizer: Optimizer,
    spread: Callable,
    nll: jax.Array,
    tokens: jax.Array,
    grads: dict,
    bank_square: jax.Array,
    coefficients_GxSxh: jax.Array,
) -> tuple[Any, dict]:
    """The next state and the metrics, from sums over the batch.

    Args:
      spread: (the bank, gradients {part: [n, G, S, ...]}, coefficients [n, G, S, h]) -> the
        bank's gradient.
      grads: of the bank {part: [G, S, ...]}, of the projected weights.
      bank_square: see `square`.
    """
    tokens, moments, every = jnp.maximum(tokens, 1.0), state.optimizer, optimizer.every
    slices, grads = parted(grads)
    grads = jax.tree.map(lambda grad: grad / tokens, grads)
    norm = jnp.sqrt(optax.global_norm(grads) ** 2 + bank_square / tokens**2)
    scale = jnp.where(norm < optimizer.clip_norm, 1, optimizer.clip_norm / norm)
    banked, rest = parted(state.params)

    rest, rest_moments = _updated(
        optimizer.rest,
        jax.tree.map(lambda grad: grad * scale, grads),
        moments.rest,
        rest,
        state.step,
    )
    place = state.step % every
    kept = jax.tree.map(partial(_put, place), moments.kept, slices)
    weighted = coefficients_GxSxh * (scale / tokens / every)
    coefficients = _put(place, moments.coefficients_nxGxSxh, weighted)

    def due(banked, bank_moments):
        grad = spread(banked, kept, coefficients)
        return _updated(optimizer.bank, grad, bank_moments, banked, state.step)

    banked, bank_moments = jax.lax.cond(
        place == every - 1, due, lambda *same: same, banked, moments.bank
    )
    after = State(bank_moments, rest_moments, kept, coefficients)
    params = {name: banked if name == BANK else rest[name] for name in state.params}
    metrics = {"loss": nll / tokens, "grad_norm": norm}
    return state.replace(step=state.step + 1, params=params, optimizer=after), metrics


def _put(place: jax.Array, kept: jax.Array, new: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(kept, new, place, 0)


def _updated(optimizer, grads, moments, params, number: jax.Array) -> tuple[Any, Any]:
    """(parameters, moments) after an update."""
    before = narrow.widened(params)
    updates, moments = optimizer.update(grads, moments, before)
    return narrow.like(optax.apply_updates(before, updates), params, number), moments
