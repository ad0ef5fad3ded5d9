"""LoRA as a parameter map: a frozen model and small adapters -> the parameters of a dense model.

Hu et al. 2021 (arXiv 2106.09685), section 4.1: an adapted matrix is W + alpha / rank * A B, with A
random and B zero at first, so that training starts at the base model. Any linear map of the layers
can be adapted, as its declaration says; embeddings, norms and biases stay. What comes out of
`merge` is an ordinary `Params`, so training, scoring and checkpoints need not know of LoRA.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import tensors, transformer
from specialm.models.tensors import Tensor, matrix, normal, zeros

Adapters = dict[str, dict[str, Any]]  # {matrix: {"a": [Y, inputs..., R], "b": [Y, R, outputs...]}}


@dataclass(frozen=True)
class Config:
    """Sizes of the adapters. Hashable, like the transformer's."""

    rank: int
    alpha: float
    matrices: tuple[str, ...] = ()  # names of `linear_maps`; () for all


def linear_maps(model: transformer.Config) -> dict[str, tuple[tuple[str, ...], Tensor]]:
    """{name: (path below the layers, declaration)} of what can be adapted."""
    layers = transformer.declare(model)["layers"]
    return {path[-1]: (path, tensor) for path, tensor in tensors.flatten(layers) if tensor.inputs}


def _adapted(model: transformer.Config, config: Config) -> Iterator[tuple[str, tuple, Tensor]]:
    maps = linear_maps(model)
    for name in config.matrices or maps:
        yield name, *maps[name]


def declare(model: transformer.Config, config: Config) -> tensors.Tree:
    """A tree of `Tensor`: every factor's shape, logical axes and initialiser.

    A is normal with standard deviation 1 / sqrt(inputs), so that A x has the scale of x (our
    reading: the paper says Gaussian and no more). The fused qkv counts as one matrix, its A shared
    by q, k and v (our reading): adapting it alone, rank 64 trains 5.05M parameters of the LLM of
    arXiv 2402.01093, where "about 5M" are given.
    """
    return {name: _factors(tensor, config.rank) for name, _, tensor in _adapted(model, config)}


def _factors(tensor: Tensor, rank: int) -> tensors.Tree:
    (count, *sizes), (_, *names), split = tensor.shape, tensor.axes, tensor.inputs
    inputs, outputs = sizes[:split], sizes[split:]
    a = normal(1 / math.sqrt(math.prod(inputs)))
    factors = {
        "a": matrix((*inputs, rank), (*names[:split], None), a, split),
        "b": matrix((rank, *outputs), (None, *names[split:]), zeros),
    }
    return tensors.stack(factors, count)


def flops_per_token(model: transformer.Config, config: Config) -> int:
    """Floating-point operations of a training step per token of a full window.

    Those of training the dense model, less the gradients of the matrices that stay: 2 operations
    a parameter, as many as they take forward. The products A B, once a step, are not counted.
    """
    adapted = {name for name, *_ in _adapted(model, config)}
    frozen = [
        math.prod(tensor.shape)
        for name, (_, tensor) in linear_maps(model).items()
        if name not in adapted
    ]
    embedder = transformer.EMBEDDERS[model.embedder].flops(model)
    heads = len(transformer.head_layers(model)) * transformer.HEADS[model.head].flops(model)
    # The embedder needs no gradient of its inputs either.
    return transformer.flops_per_token(model, train=True) - heads - 2 * (embedder + sum(frozen))


def merge(
    params: transformer.Params, adapters: Adapters, model: transformer.Config, config: Config
) -> transformer.Params:
    """The dense model of base and adapters: W + alpha / rank * A B.

    With B = 0 it is the base, bit for bit.
    """
    scale = config.alpha / config.rank
    for name, path, _ in _adapted(model, config):
        base = tensors.get(params["layers"], path)
        changed = base + scale * _product(**adapters[name])
        params = tensors.updated(params, ("layers", *path), changed)
    return params


@jax.vmap
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A B of each layer, in full float32 also where products default to less."""
    return jnp.tensordot(a, b, axes=1, precision=jax.lax.Precision.HIGHEST)
