"""Coefficients by a small network with one hidden layer: of hyper-networks and soups."""

import math

import jax
import jax.numpy as jnp

from specialm.models.tensors import MIXER, Tensor, zeros


def mixer(config) -> dict[str, Tensor]:
    """A tree of `Tensor`, of which the first weight's coefficient starts as 1."""
    c, u, h, s = config.num_features, config.hidden, config.rank, len(config.layers)

    def inputs(key, shape):
        return jax.random.normal(key, shape, jnp.float32) * math.sqrt(c)

    def outputs(key, shape):
        # u hidden values of mean square about 1/2 give a coefficient its standard deviation.
        deviation = config.spread / max(h - 1, 1) / math.sqrt(2 / math.pi) * math.sqrt(2 / u)
        return (deviation * jax.random.normal(key, shape, jnp.float32)).at[..., 0].set(0)

    def first(key, shape):
        return jnp.zeros(shape, jnp.float32).at[:, 0].set(1)

    return {
        "hidden": Tensor((c, u), (None, None), inputs, group=MIXER),
        "hidden_bias": Tensor((u,), (None,), zeros, group=MIXER),
        "out": Tensor((s, u, h), ("layers", None, None), outputs, group=MIXER),
        "out_bias": Tensor((s, h), ("layers", None), first, group=MIXER),
    }


def coefficients(mixer: dict, features_GxC: jax.Array, config) -> jax.Array:
    """[G, S, h]: tanh(features hidden + bias) out + bias."""
    hidden_GxU = jnp.tanh(features_GxC @ mixer["hidden"] + mixer["hidden_bias"])
    return jnp.einsum("GU,SUh->GSh", hidden_GxU, mixer["out"]) + mixer["out_bias"]
