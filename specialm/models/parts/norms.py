"""Normalisations over the last axis, computed in float32, in the dtype of the input."""

import jax
import jax.numpy as jnp

from specialm.models.config import Config
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


def _declare_change(size: int) -> dict[str, Tensor]:
    return {"scale": Tensor((size,), (None,), zeros)}


def rms_norm_plus1(weights: Weights, x: jax.Array, epsilon: float) -> jax.Array:
    """`rms_norm` with the scales 1 + scale, as Gemma has it (arXiv 2503.19786)."""
    return rms_norm({"scale": 1 + weights["scale"]}, x, epsilon)


# declare(size), apply(weights, x, epsilon)
NORMS = {
    "layernorm": Part(_declare_scale_and_bias, layer_norm),
    "rmsnorm": Part(_declare_scale, rms_norm),
    "rmsnorm_plus1": Part(_declare_change, rms_norm_plus1),
}


def scaled(norm: str, weights: Weights, factor: float) -> Weights:
    """The weights with which a norm gives `factor` times as much."""
    if norm == "rmsnorm_plus1":
        return {"scale": (1 + weights["scale"]) * factor - 1}
    return {name: value * factor for name, value in weights.items()}


def of_heads(config: Config) -> Part:
    """The RMSNorm of queries and keys: that of the layers, if theirs is one."""
    return NORMS["rmsnorm" if config.norm == "layernorm" else config.norm]
