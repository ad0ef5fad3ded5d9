"""How a token's place in the window enters: added to its embedding, or turned into its queries and
keys.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from specialm.models.config import Config
from specialm.models.parts import Weights
from specialm.models.tensors import Tensor, normal


@dataclass(frozen=True)
class Position:
    """One choice of the table. `first` is the position of the first token that is given."""

    declare: Callable[[Config], dict[str, Tensor]]
    add: Callable[..., jax.Array]  # (weights, x_BxLxD, first) -> x, before the first layer
    # (x_BxLxHxA, first, config, is_local) -> x, of queries and keys
    rotate: Callable[..., jax.Array]


def _unchanged(x_BxLxHxA: jax.Array, first, config: Config, is_local=None) -> jax.Array:
    return x_BxLxHxA


def _declare_learned(config: Config) -> dict[str, Tensor]:
    shape = (config.context, config.d_model)
    return {"table": Tensor(shape, ("position", "embed"), normal(0.02), decay=True)}


def _add_learned(weights: Weights, x_BxLxD: jax.Array, first) -> jax.Array:
    table_LxD, length = weights["table"], x_BxLxD.shape[1]
    if isinstance(first, int):
        return x_BxLxD + table_LxD[first : first + length]
    return x_BxLxD + jax.lax.dynamic_slice_in_dim(table_LxD, first, length)


def _angle(shape: tuple[int, ...], first, base: float, factor: float) -> jax.Array:
    """float32 [L, 1, A / 2] for x of this shape."""
    length, size = shape[1], shape[-1]
    frequency = base ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    position_L = (first + jnp.arange(length)) / factor
    return position_L[:, None, None] * frequency


def rope(x_BxLxHxA: jax.Array, first, config: Config, is_local=None) -> jax.Array:
    """Rotary positions (Su et al., arXiv 2104.09864): the pair (x[i], x[i + K/2]) is turned by the
    angle position / rope_factor * rope_base^(-2 i / K), in float32.

    The halves are those of Llama's checkpoints in the Hugging Face layout; the paper pairs
    neighbours, which is the same up to the order of a head's numbers.

    Args:
      is_local: bool [], whether the layer is local, with a base of its own; None: none is.
    """
    shape = x_BxLxHxA.shape
    angle_Lx1xk = _angle(shape, first, config.rope_base, config.rope_factor)
    if is_local is not None:
        local_Lx1xk = _angle(shape, first, config.local_rope_base, 1.0)
        angle_Lx1xk = jnp.where(is_local, local_Lx1xk, angle_Lx1xk)
    cos, sin = jnp.cos(angle_Lx1xk), jnp.sin(angle_Lx1xk)
    low, high = jnp.split(x_BxLxHxA.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
    return turned.astype(x_BxLxHxA.dtype)


POSITIONS = {
    "learned": Position(_declare_learned, _add_learned, _unchanged),
    "rope": Position(lambda config: {}, lambda weights, x, first: x, rope),
}
