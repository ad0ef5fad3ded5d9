"""LoRA as a parameter map: a frozen model and small adapters -> the parameters of a dense model.

Hu et al. 2021 (arXiv 2106.09685), section 4.1: an adapted matrix is W + alpha / rank * A B, with A
random and B zero at first, so that training starts at the base model. Only the layers' matrices
can be adapted; embeddings, norms and biases stay. What comes out of `merge` is an ordinary
`Params`, so training, scoring and checkpoints need not know of LoRA.

Letters: Y layers, R rank.
"""

import math
from dataclasses import dataclass

import flax.struct
import jax
import jax.numpy as jnp

from specialm.models import transformer
from specialm.models.tensors import Tensor, normal, zeros

# Matrix -> how many of its axes, behind the layers' axis, are inputs.
INPUT_AXES = {"qkv": 1, "out": 2, "up": 1, "down": 1}
MATRICES = tuple(INPUT_AXES)


@dataclass(frozen=True)
class Config:
    """Sizes of the adapters. Hashable, like the transformer's."""

    rank: int
    alpha: float
    matrices: tuple[str, ...] = MATRICES


@flax.struct.dataclass
class Adapter:
    """The two factors of one matrix's change, in all layers."""

    a: jax.Array  # [Y, inputs..., R]
    b: jax.Array  # [Y, R, outputs...]


Adapters = dict[str, Adapter]  # by the matrix's name in transformer.Layers


def declare(model: transformer.Config, config: Config) -> Adapters:
    """A tree of `Tensor`: every factor's shape, logical axes and initialiser.

    A is normal with deviation 1 / sqrt(inputs), so that A x has the scale of x (our reading: the
    paper says Gaussian and no more). The fused qkv counts as one matrix, its A shared by q, k and
    v (our reading): adapting it alone, rank 64 trains 5.05M parameters of the LLM of
    arXiv 2402.01093, which gives "about 5M".
    """
    layers = transformer.declare(model).layers
    return {
        name: _factors(getattr(layers, name), INPUT_AXES[name], config.rank)
        for name in config.matrices
    }


def _factors(matrix: Tensor, input_axes: int, rank: int) -> Adapter:
    count, *sizes = matrix.shape
    layers, *names = matrix.axes
    inputs, outputs = sizes[:input_axes], sizes[input_axes:]
    a = Tensor(
        (count, *inputs, rank),
        (layers, *names[:input_axes], None),
        normal(1 / math.sqrt(math.prod(inputs))),
    )
    b = Tensor((count, rank, *outputs), (layers, None, *names[input_axes:]), zeros)
    return Adapter(a, b)


def flops_per_token(model: transformer.Config, config: Config) -> int:
    """Floating-point operations of a training step per token of a full window.

    Those of training the dense model, less the gradients of the matrices that stay: 2 operations
    a parameter. The products A B, made once a step, are not counted.
    """
    layers = transformer.declare(model).layers
    frozen = [
        math.prod(getattr(layers, name).shape) for name in MATRICES if name not in config.matrices
    ]
    head = model.vocab_size * model.d_model
    return transformer.flops_per_token(model, train=True) - 2 * (head + sum(frozen))


def merge(params: transformer.Params, adapters: Adapters, config: Config) -> transformer.Params:
    """The dense model that base and adapters make together: W + alpha / rank * A B.

    With B = 0 it is the base, bit for bit.
    """
    scale = config.alpha / config.rank
    changed = {
        name: getattr(params.layers, name) + scale * _product(adapter)
        for name, adapter in adapters.items()
    }
    return params.replace(layers=params.layers.replace(**changed))


@jax.vmap
def _product(adapter: Adapter) -> jax.Array:
    """A B of each layer, in full float32 also where products default to less."""
    return jnp.tensordot(adapter.a, adapter.b, axes=1, precision=jax.lax.Precision.HIGHEST)
