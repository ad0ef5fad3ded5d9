"""Muon (Jordan 2024; arXiv 2502.16982, section 2): momentum made orthogonal, for linear maps.

The state is Adam's, of all tensors: so it lies on the mesh, is saved and is restored as Adam's is.
(The second moments of matrices are kept for nothing; optax's own Muon has none, but its state is no
tree of parameters.) Our reading: what one matrix product computes, such as queries, keys and
values, is one matrix; the momentum's decay is Adam's beta1.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from specialm.models import tensors

ROUNDS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the iteration, as published
RMS = 0.2  # root mean square of an update, about that of AdamW's (arXiv 2502.16982, equation 4)


def scale_by_muon(
    adam: optax.GradientTransformation,
    beta: float,
    declared: tensors.Tree,
    momentum: Callable[[Any], Any],
) -> optax.GradientTransformation:
    """Adam's directions, and for the linear maps of `declared` orthogonal ones.

    Args:
      adam: `optax.scale_by_adam`, whose first moment is the momentum.
      beta: decay of that moment.
      momentum: (its state) -> that moment, a tree like the parameters.
    """
    splits = tensors.map_tensors(_split, declared)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        directions, state = adam.update(grads, state, params)

        def chosen(split: tuple[int, int], direction, before, grad):
            if split == NO_MATRIX:
                return direction
            # Nesterov's: the momentum as the next gradient, if it were this one, would leave it.
            ahead = beta * before.astype(jnp.float32) + (1 - beta) * grad
            return _orthogonal(ahead, *split)

        is_split = lambda node: isinstance(node, tuple)  # noqa: E731
        first = momentum(state)
        moved = jax.tree.map(chosen, splits, directions, first, grads, is_leaf=is_split)
        return moved, state

    return optax.GradientTransformation(adam.init, update)


NO_MATRIX = (0, 0)


def _split(tensor: tensors.Tensor) -> tuple[int, int]:
    """How many of the last axes of a linear map are inputs and outputs."""
    outputs = len(tensor.shape) - tensor.leading - tensor.inputs
    return (tensor.inputs, outputs) if tensor.inputs else NO_MATRIX


def _orthogonal(x: jax.Array, inputs: int, outputs: int) -> jax.Array:
    """Each matrix of the last axes with singular values near 1, scaled to `RMS`."""
    sizes = x.shape[x.ndim - inputs - outputs :]
    rows = math.prod(sizes[:inputs])
    matrices = x.reshape(-1, rows, math.prod(sizes[inputs:]))
    scale = RMS * math.sqrt(max(matrices.shape[1:]))
    return scale * jax.vmap(_newton_schulz)(matrices).reshape(x.shape)


def _newton_schulz(x: jax.Array) -> jax.Array:
    """x <- a x + (b s + c s^2) x with s = x x^T, from x of norm 1: singular values go near 1."""
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide /= jnp.linalg.norm(wide) + 1e-8
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T
