"""The hard mixture (SLM-mix, arXiv 2402.01093 section 3): an independent small model per cluster.

Every tensor has a leading axis over the k experts. It is a bank with h = k and one-hot coefficients
on every tensor; nothing is shared, so any expert can be trained by itself.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from specialm.models import tensors, transformer
from specialm.models.tensors import Tensor


@dataclass(frozen=True)
class Config:
    """Sizes of a mixture. Hashable, so that it can be a static argument of `jax.jit`."""

    model: transformer.Config  # of each expert
    num_experts: int


def declare(config: Config) -> tensors.Tree:
    """A tree of `Tensor`, with the axis "expert" in front. All experts start from the same values,
    those of a dense model of the same key.
    """

    def repeated(tensor: Tensor) -> Tensor:
        def init(key, shape):
            return jnp.broadcast_to(tensor.init(key, shape[1:]), shape)

        return replace(tensor.stacked(config.num_experts, "expert"), init=init)

    return tensors.map_tensors(repeated, transformer.declare(config.model))


def from_dense(params: transformer.Params, config: Config) -> transformer.Params:
    """Parameters whose every expert is the given dense model."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (config.num_experts, *leaf.shape)), params
    )


def mix(params: transformer.Params, histogram_k: jax.Array) -> transformer.Params:
    """The dense parameters of the experts' weighted mean; one-hot: of one expert."""
    return jax.tree.map(lambda leaf: jnp.tensordot(histogram_k, leaf, 1), params)
