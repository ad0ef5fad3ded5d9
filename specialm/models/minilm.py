"""MiniLM sentence encoder: the forward pass of BERT with masked mean pooling, pure functions.

The model is all-MiniLM-L6-v2 (BERT, 6 layers, d 384, exact GELU, post-LayerNorm); its weights are
read from a folder in the Hugging Face layout. The sentence vector is the mean of the last layer
over the real tokens, scaled to unit length.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass

Array = jax.Array | np.ndarray  # as given and as read from a file
PRECISION = "highest"  # a float32 product is one on every device; bfloat16 is asked for by dtype


@dataclass(frozen=True)
class Config:
    """What the weights do not say."""

    num_heads: int
    norm_epsilon: float


@register_dataclass
@dataclass(frozen=True)
class Norm:
    """A LayerNorm."""

    scale: Array  # [.., D]
    bias: Array


@register_dataclass
@dataclass(frozen=True)
class Linear:
    """A linear map."""

    weight: Array  # [.., in, out]
    bias: Array


@register_dataclass
@dataclass(frozen=True)
class Layer:
    """One encoder layer; stacked on a leading axis N inside Params."""

    qkv: Linear  # D -> 3 D: query (already divided by sqrt(K)), key, value
    attention_output: Linear
    attention_norm: Norm
    mlp_in: Linear
    mlp_out: Linear
    mlp_norm: Norm


@register_dataclass
@dataclass(frozen=True)
class Params:
    """All weights of the encoder."""

    tokens_VxD: Array
    positions_LxD: Array  # with the vector of token type 0 added
    norm: Norm
    layers: Layer


def apply(params: Params, ids_BxL: jax.Array, mask_BxL: jax.Array, config: Config) -> jax.Array:
    """Sentence vectors, float32 [B, D], rows of unit length.

    Args:
      ids_BxL: token ids, int32; whatever stands where the mask is 0 is not looked at.
      mask_BxL: 1 for a real token, 0 for padding; every row needs at least one real token.
    """
    length = ids_BxL.shape[1]
    x_BxLxD = params.tokens_VxD[ids_BxL] + params.positions_LxD[:length]
    x_BxLxD = _norm(x_BxLxD, params.norm, config.norm_epsilon)
    mask_BxL = mask_BxL.astype(jnp.float32)

    def step(x_BxLxD, layer):
        return _layer(x_BxLxD, mask_BxL, layer, config), None

    x_BxLxD, _ = jax.lax.scan(step, x_BxLxD, params.layers)
    sum_BxD = jnp.einsum("bld,bl->bd", x_BxLxD, mask_BxL, precision=PRECISION)
    mean_BxD = sum_BxD / mask_BxL.sum(1, keepdims=True)
    return mean_BxD / jnp.linalg.norm(mean_BxD, axis=1, keepdims=True)


def _layer(x_BxLxD: jax.Array, mask_BxL: jax.Array, layer: Layer, config: Config) -> jax.Array:
    batch, length, d_model = x_BxLxD.shape
    heads = config.num_heads
    x_TxD = x_BxLxD.reshape(batch * length, d_model)  # dots in two dimensions are the fastest
    qkv = _linear(x_TxD, layer.qkv).reshape(batch, length, 3, heads, d_model // heads)
    query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    scores_BxHxLxL = jnp.einsum("blhk,bmhk->bhlm", query, key, precision=PRECISION)
    scores_BxHxLxL = scores_BxHxLxL + jnp.where(mask_BxL > 0, 0.0, -1e9)[:, None, None, :]
    attention_BxHxLxL = jax.nn.softmax(scores_BxHxLxL)
    mixed_BxLxHxA = jnp.einsum("bhlm,bmhk->blhk", attention_BxHxLxL, value, precision=PRECISION)
    mixed_TxD = mixed_BxLxHxA.reshape(batch * length, d_model)
    epsilon = config.norm_epsilon
    x_TxD = _norm(x_TxD + _linear(mixed_TxD, layer.attention_output), layer.attention_norm, epsilon)
    hidden_TxF = jax.nn.gelu(_linear(x_TxD, layer.mlp_in), approximate=False)
    x_TxD = _norm(x_TxD + _linear(hidden_TxF, layer.mlp_out), layer.mlp_norm, epsilon)
    return x_TxD.reshape(batch, length, d_model)


def _linear(x_TxI: jax.Array, linear: Linear) -> jax.Array:
    product = jnp.dot(
        x_TxI.astype(linear.weight.dtype),
        linear.weight,
        precision=PRECISION,
        preferred_element_type=jnp.float32,
    )
    return product + linear.bias


def _norm(x: jax.Array, norm: Norm, epsilon: float) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + epsilon) * norm.scale + norm.bias


def load(folder: Path, dtype: str = "float32") -> tuple[Params, Config]:
    """Reads `model.safetensors` and `config.json` of a BERT in the Hugging Face layout.

    Args:
      dtype: of the linears' weights, and so of their products; all else is float32.
    """
    from safetensors.numpy import load_file

    settings = json.loads((folder / "config.json").read_text())
    config = Config(settings["num_attention_heads"], settings["layer_norm_eps"])
    tensors = load_file(folder / "model.safetensors")
    return from_tensors(tensors, settings["num_hidden_layers"], config, dtype), config


def from_tensors(
    tensors: dict[str, np.ndarray], num_layers: int, config: Config, dtype: str = "float32"
) -> Params:
    """Params from tensors under their Hugging Face names."""
    layers = [
        _layer_from(tensors, f"encoder.layer.{i}.", config, jnp.dtype(dtype))
        for i in range(num_layers)
    ]
    positions_LxD = (
        tensors["embeddings.position_embeddings.weight"]
        + tensors["embeddings.token_type_embeddings.weight"][0]
    )
    return Params(
        tensors["embeddings.word_embeddings.weight"],
        positions_LxD,
        _norm_from(tensors, "embeddings.LayerNorm"),
        jax.tree.map(lambda *parts: np.stack(parts), *layers),
    )


def _layer_from(tensors: dict[str, np.ndarray], prefix: str, config: Config, dtype) -> Layer:
    query, key, value = (
        _linear_from(tensors, f"{prefix}attention.self.{name}")
        for name in ("query", "key", "value")
    )
    scale = np.float32((query.bias.size // config.num_heads) ** -0.5)
    qkv = Linear(
        np.concatenate([query.weight * scale, key.weight, value.weight], axis=1),
        np.concatenate([query.bias * scale, key.bias, value.bias]),
    )
    qkv, output, mlp_in, mlp_out = (
        replace(linear, weight=linear.weight.astype(dtype))
        for linear in (
            qkv,
            _linear_from(tensors, f"{prefix}attention.output.dense"),
            _linear_from(tensors, f"{prefix}intermediate.dense"),
            _linear_from(tensors, f"{prefix}output.dense"),
        )
    )
    return Layer(
        qkv,
        output,
        _norm_from(tensors, f"{prefix}attention.output.LayerNorm"),
        mlp_in,
        mlp_out,
        _norm_from(tensors, f"{prefix}output.LayerNorm"),
    )


def _linear_from(tensors: dict[str, np.ndarray], name: str) -> Linear:
    return Linear(tensors[f"{name}.weight"].T, tensors[f"{name}.bias"])


def _norm_from(tensors: dict[str, np.ndarray], name: str) -> Norm:
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])
