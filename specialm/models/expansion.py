"""Shared weights as a parameter map: what is stored -> the layers that a token passes.

`sharing.py` says which set each layer uses. What comes out is the layers of a model that shares
nothing, so attention, MLPs, caches, exits and export need not know of it; the gradient of a stored
set is the sum over the layers that use it. A correction is W + A B, with B zero at first, so that a
model starts as one that shares without it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import sharing, tensors
from specialm.models.config import Config
from specialm.models.placement import MODEL_AXES, WHOLE, Placement
from specialm.models.tensors import Tensor, normal, zeros

LOW_RANK = "low_rank"  # beside the parts of the layers: {part: {tensor: {"a", "b"}}}


def declare(layer: tensors.Tree, config: Config) -> tensors.Tree:
    """What is stored of the layers, of the declaration of one: the sets of each tensor on a leading
    axis, and each layer's corrections.
    """
    if not config.share:
        return tensors.stack(layer, config.num_layers)

    def stored(path: tuple[str, ...], tensor: Tensor) -> Tensor:
        share = sharing.of(path, config)
        return tensor.stacked(share.sets if share else config.num_layers)

    corrections: tensors.Tree = {}
    for path, tensor in _corrected(layer, config):
        corrections = tensors.updated(corrections, path, _factors(tensor, config))
    return _map(stored, layer) | ({LOW_RANK: corrections} if corrections else {})


def _map(function: Callable[[tuple[str, ...], Any], Any], tree: Any, path=()) -> Any:
    """`function` of (path, leaf) of a tree of dicts."""
    if not isinstance(tree, dict):
        return function(path, tree)
    return {name: _map(function, part, (*path, name)) for name, part in tree.items()}


def _corrected(layer: tensors.Tree, config: Config) -> list[tuple[tuple[str, ...], Tensor]]:
    """(path, declaration) of the matrices of a layer that have a correction."""
    found = []
    for path, tensor in tensors.flatten(layer):
        share = sharing.of(path, config)
        if share and share.low_rank and tensor.inputs:
            found.append((path, tensor))
    return found


def _factors(tensor: Tensor, config: Config) -> tensors.Tree:
    """A [Y, inputs..., R] and B [Y, R, outputs...] of a matrix. A is normal with standard deviation
    1 / sqrt(inputs), so that A x has the scale of x; B is zero.
    """
    rank, inputs = config.share_rank, tensor.inputs
    a = normal(1 / math.sqrt(math.prod(tensor.shape[:inputs])))
    # No linear maps of their own: LoRA adapts what they correct.
    factors = {
        "a": Tensor((*tensor.shape[:inputs], rank), (*tensor.axes[:inputs], None), a, decay=True),
        "b": Tensor(
            (rank, *tensor.shape[inputs:]), (None, *tensor.axes[inputs:]), zeros, decay=True
        ),
    }
    return tensors.stack(factors, config.num_layers)


def expanded(layers: Any, declared: tensors.Tree, config: Config, place: Placement = WHOLE) -> Any:
    """The weights of all layers, [Y, ...] each.

    Args:
      layers: what is stored.
      declared: one layer's declaration.
      place: how they lie, inside of a `jax.shard_map`.
    """
    if not config.share:
        return layers
    corrections = _whole(layers.get(LOW_RANK, {}), declared, config, place)

    def expand(path: tuple[str, ...], leaf: jax.Array) -> jax.Array:
        share = sharing.of(path, config)
        if share is None:
            return leaf
        # Slices and not a gather, whose gradient is a scatter: slow on a CPU.
        weights = jnp.stack([leaf[row] for row in share.rows])
        tensor = tensors.get(declared, path)
        if not (share.low_rank and tensor.inputs):
            return weights
        return weights + _product(tensors.get(corrections, path), tensor, place)

    stored = {name: part for name, part in layers.items() if name != LOW_RANK}
    return _map(expand, stored)


def _whole(corrections: Any, layer: tensors.Tree, config: Config, place: Placement) -> Any:
    """The corrections, gathered of the parts of a layer that every device holds whole."""
    if not corrections or not place.whole:
        return corrections
    axes = tensors.logical_axes(declare(layer, config)[LOW_RANK])
    return {
        part: place.gather(tree, axes[part], config.dtype) if part in place.whole else tree
        for part, tree in corrections.items()
    }


def _product(factors: dict[str, jax.Array], tensor: Tensor, place: Placement) -> jax.Array:
    """A B of each layer, in full float32. The factor that every device along `model` holds whole
    meets only the device's part of the other, so its gradients are summed.
    """
    inputs, outputs = tensor.axes[: tensor.inputs], tensor.axes[tensor.inputs :]
    a, b = factors["a"], factors["b"]
    if any(axis in MODEL_AXES for axis in outputs):
        a = place.to_model_parallel(a)
    if any(axis in MODEL_AXES for axis in inputs):
        b = place.to_model_parallel(b)
    highest = jax.lax.Precision.HIGHEST
    return jax.vmap(lambda a, b: jnp.tensordot(a, b, axes=1, precision=highest))(a, b)


def without_sharing(config: Config) -> Config:
    """The same architecture with every layer's weights its own."""
    return dataclasses.replace(config, share=())
