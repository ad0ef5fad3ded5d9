"""The hard mixture (SLM-mix, arXiv 2402.01093 section 3): an independent small model per cluster.

Every tensor has a leading axis over the k experts. It is a bank with h = k and one-hot coefficients
on every tensor; nothing is shared, so any expert can be trained alone.

Letters: k experts.
"""

from dataclasses import dataclass

import jax

from specialm.models import transformer
from specialm.models.tensors import Tensor, map_tensors


@dataclass(frozen=True)
class Config:
    """Sizes of a mixture. Hashable, so that it can be a static argument of `jax.jit`."""

    model: transformer.Config  # of each expert
    num_experts: int


def declare(config: Config) -> transformer.Params:
    """A tree of `Tensor`, with the axis "expert" in front. All experts start from the same values,
    those of a dense model of the same key."""

    def repeated(tensor: Tensor) -> Tensor:
        def init(key, shape):
            return jax.numpy.broadcast_to(tensor.init(key, shape[1:]), shape)

        return Tensor((config.num_experts, *tensor.shape), ("expert", *tensor.axes), init)

    return map_tensors(repeated, transformer.declare(config.model))


def project(params: transformer.Params, expert: int) -> transformer.Params:
    """The dense parameters of one expert."""
    return jax.tree.map(lambda leaf: leaf[expert], params)


def mix(params: transformer.Params, histogram_k: jax.Array) -> transformer.Params:
    """The dense parameters of the experts' weighted mean."""
    return jax.tree.map(lambda leaf: jax.numpy.tensordot(histogram_k, leaf, 1), params)
