"""Parameters and moments in bfloat16, for models whose state would not fit in memory otherwise.

bfloat16 has 8 bits: a step of Adam is often less than half the distance to the next number, and
rounding to the nearest would lose it for good. So what is stored is rounded up or down at random,
with the probabilities that make it right on average (Gupta et al., arXiv 1502.02551, section 3).
All arithmetic of the optimizer is float32.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

NARROW, WIDE = jnp.bfloat16, jnp.float32


def rounded(x: jax.Array, key: jax.Array) -> jax.Array:
    """float32 -> bfloat16: one of the two neighbours, at random, so that the mean is x. What
    bfloat16 holds stays as it is, and so do infinities.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    kept = (bits + noise) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(kept, WIDE).astype(NARROW)


def widened(tree: Any) -> Any:
    """A tree of arrays, those in bfloat16 as float32."""
    return jax.tree.map(lambda leaf: leaf.astype(WIDE) if leaf.dtype == NARROW else leaf, tree)


def like(tree: Any, stored: Any, number: jax.Array) -> Any:
    """A tree in the dtypes of another one like it, `rounded` where that is bfloat16.

    Args:
      number: of the step, which the random numbers follow from.
    """
    leaves, structure = jax.tree.flatten(tree)
    key = jax.random.fold_in(jax.random.key(0), number)

    def narrowed(place: int, leaf: jax.Array, old: jax.Array) -> jax.Array:
        same = leaf.dtype == old.dtype
        return leaf if same else rounded(leaf, jax.random.fold_in(key, place))

    olds = jax.tree.leaves(stored)
    made = [narrowed(i, *each) for i, each in enumerate(zip(leaves, olds, strict=True))]
    return jax.tree.unflatten(structure, made)


def second_moment(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimizer with Adam's second moment stored in bfloat16."""

    def cast(state: Any, function: Callable[[jax.Array], jax.Array]) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: function(leaf) if _is_named("nu", path) else leaf, state
        )

    def init(params):
        return cast(optimizer.init(params), lambda leaf: leaf.astype(NARROW))

    def update(grads, state, params=None):
        updates, after = optimizer.update(
            grads, cast(state, lambda leaf: leaf.astype(WIDE)), params
        )
        return updates, like(after, state, _count(state))

    return optax.GradientTransformation(init, update)


def of_narrow(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimizer for parameters that may be bfloat16: its state does not take their
    dtype.
    """
    return optax.GradientTransformation(
        lambda params: optimizer.init(widened(params)), optimizer.update
    )


def _is_named(name: str, path: tuple) -> bool:
    return any(getattr(part, "name", "") == name for part in path)


def _count(state: Any) -> jax.Array:
    """The steps that Adam has taken."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return next(leaf for path, leaf in leaves if _is_named("count", path))
