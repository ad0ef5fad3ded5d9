"""Normalisations over the last axis, computed in float32, in the dtype of the input."""

import jax
import jax.numpy as jnp

from specialm.models.parts import Part, Weights
from specialm.models.tensors import Tensor, ones, zeros


def _declare_scale(size: int) -> dict[str, Tensor]:
    return {"scale": Tensor((size,), (None,), ones)}


def _declare_scale_and_bias(size: int) -> dict[str, Tensor]:
    return {**_declare_scale(size), "bias": Tensor((size,), (None,), zeros)}


def layer_norm(weights: Weights, x: jax.Array, epsilon: float) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias (Ba et al., arXiv 1607.06450)."""
    x32 = x.astype(jnp.float32)
    centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(variance + epsilon) * weights["scale"] + weights["bias"]
    return normed.astype(x.dtype)


def rms_norm(weights: Weights, x: jax.Array, epsilon: float) -> jax.Array:
    """x / sqrt(mean of squares + epsilon) * scale (Zhang and Sennrich, arXiv 1910.07467)."""
    x32 = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    return (x32 * jax.lax.rsqrt(square + epsilon) * weights["scale"]).astype(x.dtype)


# declare(size), apply(weights, x, epsilon)
NORMS = {
    "layernorm": Part(_declare_scale_and_bias, layer_norm),
    "rmsnorm": Part(_declare_scale, rms_norm),
}
