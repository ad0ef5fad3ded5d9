"""The MLP of a layer: two linear maps with an activation between them."""

import math

import jax
from jax.ad_checkpoint import checkpoint_name

from specialm.models.config import Config
from specialm.models.operations import linear
from specialm.models.parts import Part, Weights, biases, block_output
from specialm.models.placement import PRODUCT, Placement
from specialm.models.tensors import Tensor, matrix, normal, zeros


def _declare(
    config: Config, up_shape: tuple, up_axes: tuple, pieces: tuple = ()
) -> dict[str, Tensor]:
    d, f = config.d_model, config.d_ff
    residual = normal(0.02 / math.sqrt(2 * config.num_layers))
    up = matrix((d, *up_shape), ("embed", *up_axes), normal(0.02), pieces=pieces)
    down = matrix((f, d), ("mlp", "embed"), residual)
    return {
        "up": up,
        **biases(config, up_bias=Tensor(up_shape, up_axes, zeros)),
        "down": down,
        **biases(config, down_bias=Tensor((d,), (None,), zeros)),
    }


def _up(weights: Weights, x_TxD: jax.Array) -> jax.Array:
    return checkpoint_name(linear(x_TxD, weights["up"], weights.get("up_bias")), PRODUCT)


def _down(weights: Weights, x_TxF: jax.Array, place: Placement) -> jax.Array:
    return block_output(x_TxF, weights["down"], weights.get("down_bias"), place)


def _declare_gelu(config: Config) -> dict[str, Tensor]:
    return _declare(config, (config.d_ff,), ("mlp",))


def gelu(weights: Weights, x_TxD: jax.Array, place: Placement) -> jax.Array:
    """GPT-2's MLP, the tanh form of GELU between two linear maps."""
    return _down(weights, jax.nn.gelu(_up(weights, x_TxD), approximate=True), place)


def _declare_swiglu(config: Config) -> dict[str, Tensor]:
    pieces = (("gate", 0, 1), ("up", 1, 2))
    return _declare(config, (2, config.d_ff), (None, "mlp"), pieces)


def swiglu(weights: Weights, x_TxD: jax.Array, place: Placement) -> jax.Array:
    """Shazeer's (arXiv 2002.05202): (silu(x gate) * (x up)) down; gate and up are one tensor."""
    both_Tx2xF = _up(weights, x_TxD)
    return _down(weights, jax.nn.silu(both_Tx2xF[:, 0]) * both_Tx2xF[:, 1], place)


def geglu(weights: Weights, x_TxD: jax.Array, place: Placement) -> jax.Array:
    """Of the same paper: (gelu(x gate) * (x up)) down, the tanh form of GELU."""
    both_Tx2xF = _up(weights, x_TxD)
    gate_TxF = jax.nn.gelu(both_Tx2xF[:, 0], approximate=True)
    return _down(weights, gate_TxF * both_Tx2xF[:, 1], place)


# declare(config), apply(weights, x, place), flops(config)
MLPS = {
    "geglu": Part(_declare_swiglu, geglu, lambda config: 6 * config.d_model * config.d_ff),
    "gelu": Part(_declare_gelu, gelu, lambda config: 4 * config.d_model * config.d_ff),
    "swiglu": Part(_declare_swiglu, swiglu, lambda config: 6 * config.d_model * config.d_ff),
}
