"""Quantisation-aware training: the loss and its gradient are of the weights as they would be stored
in few bits, and the update is of the weights that these were rounded from.

The gradient passes the rounding as if it were not there, the straight-through estimator (Bengio et
al., arXiv 1308.3432, section 4; of networks in few bits Jacob et al., arXiv 1712.05877, section 3).
The rounding is that of `models/quantization.py`, once a step and not once for each microbatch.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from specialm.models import quantization, tensors


@dataclass(frozen=True)
class Rounding:
    """What is rounded, how, and from which step on.

    Attributes:
      declared: the tree of `Tensor` of what is trained.
      bits: of `quantization.BITS`.
      first: the step, counted from 0, from which on it is trained for them.
    """

    declared: tensors.Tree
    bits: int
    first: int = 0

    def at(self, params: Any, step: jax.Array) -> Any:
        """The weights that a step computes its loss of."""
        return jax.lax.cond(step >= self.first, self.stored, lambda params: params, params)

    def stored(self, params: Any) -> Any:
        """The weights as they would be stored: float32, and once more the same."""
        return jax.tree.map(
            lambda values, tensor: rounded(values, tensor, self.bits), params, self.declared
        )


def of_training(train: ConfigDict, steps: int, declared: tensors.Tree) -> Rounding | None:
    """What the settings of pretraining say, of so many steps; None if nothing is rounded."""
    if not train.quantize_bits:
        return None
    return Rounding(declared, train.quantize_bits, round(train.quantize_from * steps))


def rounded(values: jax.Array, tensor: tensors.Tensor, bits: int) -> jax.Array:
    """A tensor as it would be stored; what is no matrix as it is."""
    if not tensor.decay or tensor.constant:
        return values
    turned = quantization.inputs_last(values, tensor, jnp)
    codes, scales = quantization.nearest(quantization.in_blocks(turned, jnp), bits, jnp)
    back = quantization.of_blocks(codes * scales, turned.shape)
    return quantization.inputs_first(back, tensor, jnp)
