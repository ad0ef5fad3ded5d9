"""LoRA as a parameter map: a frozen model and small adapters -> the parameters of a dense model.

Hu et al. 2021 (arXiv 2106.09685), section 4.1: an adapted matrix is W + alpha / rank * A B, with A
random and B zero at first, so that training starts at the base model. Any linear map of the layers
can be adapted, as its declaration says, or one of the pieces that it holds (q of qkv, gate of up);
embeddings, norms and biases stay. What comes out of `merge` is an ordinary `Params`, so training,
scoring and checkpoints need not know of LoRA.

DoRA (Liu et al., arXiv 2402.09353, equation 5): each output of the changed matrix V is divided by
its norm and multiplied by a trained magnitude, at first the norm of W.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from specialm.common.errors import UserError
from specialm.models import ranks as ranks_lib
from specialm.models import tensors, transformer
from specialm.models.tensors import Tensor, matrix, normal, ones, zeros

# {target: {"a": [Y, inputs..., R], "b": [Y, R, outputs...]}}, of DoRA "m": [Y, outputs...] too
Adapters = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Config:
    """Sizes of the adapters. Hashable, like the transformer's."""

    rank: int
    alpha: float
    matrices: tuple[str, ...] = ()  # names of `linear_maps`; () for all
    ranks: tuple[tuple[str, int], ...] = ()  # (target, its rank), instead of rank and matrices
    dora: bool = False


@dataclass(frozen=True)
class Target:
    """What one pair of factors adapts."""

    path: tuple[str, ...]  # of its linear map, below the layers
    tensor: Tensor  # its declaration
    where: tuple[slice, ...] = ()  # of a piece: its place in the map with the axis of the layers

    def of(self, layers: transformer.Params) -> jax.Array:
        """Its weights, [Y, inputs..., outputs...]."""
        return tensors.get(layers, self.path)[self.where]


def linear_maps(model: transformer.Config) -> dict[str, tuple[tuple[str, ...], Tensor]]:
    """{name: (path below the layers, declaration)} of what can be adapted."""
    layers = transformer.declare(model)["layers"]
    return {path[-1]: (path, tensor) for path, tensor in tensors.flatten(layers) if tensor.inputs}


def pieces(model: transformer.Config) -> dict[str, Target]:
    """{name: target} of the single maps: q, k and v apart, gate and up apart."""
    found = {}
    for name, (path, tensor) in linear_maps(model).items():
        before, axis = (slice(None),) * (1 + tensor.inputs), 1 + tensor.inputs
        for piece, first, end in tensor.pieces:
            shape = (*tensor.shape[:axis], end - first, *tensor.shape[axis + 1 :])
            part = replace(tensor, shape=shape, pieces=())
            found[piece] = Target(path, part, (*before, slice(first, end)))
        if not tensor.pieces:
            found[name] = Target(path, tensor)
    return found


def ranks(model: transformer.Config, text: str, rank: int) -> tuple[tuple[str, int], ...]:
    """((target, its rank), ...) of `finetune.lora_targets` for a model.

    A pattern meets names as q or attention.q; of those that meet one name the last counts, and rank
    0 leaves it out.

    Raises:
      UserError: see `ranks.read`; a pattern that meets no linear map of the model.
    """
    names = {name: f"{target.path[0]}.{name}" for name, target in pieces(model).items()}
    found: dict[str, int] = {}
    for pattern, number in ranks_lib.read(text, rank):
        met = [n for n, full in names.items() if any(fnmatchcase(x, pattern) for x in (n, full))]
        if not met:
            raise UserError(
                f"{ranks_lib.SETTING}={text!r}: {pattern!r} is none of the model's linear maps: "
                f"{', '.join(names.values())}."
            )
        found |= dict.fromkeys(met, number)
    chosen = tuple((name, found[name]) for name in names if found.get(name))
    if not chosen:
        raise UserError(
            f"{ranks_lib.SETTING}={text!r}: leaves nothing to train; give one map a rank."
        )
    return chosen


def adapted(model: transformer.Config, config: Config) -> Iterator[tuple[str, Target, int]]:
    """(name, target, rank) of everything that has factors."""
    if config.ranks:
        found = pieces(model)
        for name, rank in config.ranks:
            yield name, found[name], rank
        return
    maps = linear_maps(model)
    for name in config.matrices or maps:
        yield name, Target(*maps[name]), config.rank


def declare(model: transformer.Config, config: Config) -> tensors.Tree:
    """A tree of `Tensor`: every factor's shape, logical axes and initialiser.

    A is normal with standard deviation 1 / sqrt(inputs), so that A x has the scale of x (our
    reading: the paper says Gaussian and no more). The fused qkv counts as one matrix, its A shared
    by q, k and v (our reading): adapting it alone, rank 64 trains 5.05M parameters of the LLM of
    arXiv 2402.01093, where "about 5M" are given.
    """
    return {
        name: _factors(target.tensor, rank, config.dora)
        for name, target, rank in adapted(model, config)
    }


def _factors(tensor: Tensor, rank: int, dora: bool) -> tensors.Tree:
    (count, *sizes), (_, *names), split = tensor.shape, tensor.axes, tensor.inputs
    inputs, outputs = sizes[:split], sizes[split:]
    a = normal(1 / math.sqrt(math.prod(inputs)))
    factors = {
        "a": matrix((*inputs, rank), (*names[:split], None), a, split),
        "b": matrix((rank, *outputs), (None, *names[split:]), zeros),
        **({"m": Tensor(tuple(outputs), tuple(names[split:]), ones)} if dora else {}),
    }
    return tensors.stack(factors, count)


def init(
    params: transformer.Params, model: transformer.Config, config: Config, key: jax.Array
) -> Adapters:
    """Initial adapters of a base model: `merge` gives that model."""
    found = tensors.init(declare(model, config), key)
    if config.dora:
        for name, target, _ in adapted(model, config):
            found[name]["m"] = _norm(target.of(params["layers"]), target.tensor.inputs)
    return found


def flops_per_token(model: transformer.Config, config: Config) -> int:
    """Floating-point operations of a training step per token of a full window.

    Those of training the dense model, less the gradients of the matrices that stay: 2 operations
    a parameter, as many as they take forward. The products A B, once a step, are not counted, and
    of a fused matrix the gradient is that of all its pieces.
    """
    paths = {target.path for _, target, _ in adapted(model, config)}
    frozen = [
        math.prod(tensor.shape) for path, tensor in linear_maps(model).values() if path not in paths
    ]
    embedder = transformer.EMBEDDERS[model.embedder].flops(model)
    heads = len(transformer.head_layers(model)) * transformer.HEADS[model.head].flops(model)
    # The embedder needs no gradient of its inputs either.
    return transformer.flops_per_token(model, train=True) - heads - 2 * (embedder + sum(frozen))


def merge(
    params: transformer.Params, adapters: Adapters, model: transformer.Config, config: Config
) -> transformer.Params:
    """The dense model of base and adapters: W + alpha / rank * A B.

    With B = 0 it is the base, bit for bit (of DoRA up to rounding).
    """
    for name, target, rank in adapted(model, config):
        factors = adapters[name]
        changed = target.of(params["layers"])
        changed = changed + config.alpha / rank * _product(factors["a"], factors["b"])
        if config.dora:
            changed = _with_magnitude(changed, factors["m"], target.tensor.inputs)
        if target.where:
            whole = jnp.asarray(tensors.get(params["layers"], target.path))
            changed = whole.at[target.where].set(changed)
        params = tensors.updated(params, ("layers", *target.path), changed)
    return params


@jax.vmap
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A B of each layer, in full float32 also where products default to less."""
    return jnp.tensordot(a, b, axes=1, precision=jax.lax.Precision.HIGHEST)


def _norm(weights: jax.Array, inputs: int) -> jax.Array:
    """[Y, outputs...]: the norm of what each output is a sum with."""
    return jnp.sqrt(jnp.sum(jnp.square(weights), axis=tuple(range(1, 1 + inputs))))


def _with_magnitude(weights: jax.Array, magnitude: jax.Array, inputs: int) -> jax.Array:
    """m V / |V|; the norm is a constant for the gradient (section 4.3 of the paper). An output of
    zeros stays.
    """
    norm = jax.lax.stop_gradient(_norm(weights, inputs))
    scale = magnitude / jnp.where(norm > 0, norm, 1.0)
    return weights * jnp.expand_dims(scale, tuple(range(1, 1 + inputs)))
