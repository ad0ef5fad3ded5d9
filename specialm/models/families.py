"""What is the same for every kind of model: dense, bank or mixture, told apart by its config."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import bank, mixture, tensors, transformer

Config = transformer.Config | bank.Config | mixture.Config
DENSE, BANK, MIXTURE = "dense", "bank", "mixture"  # kinds
CLUSTER, CENTROID, HISTOGRAM = "cluster", "centroid", "histogram"  # features


@dataclass(frozen=True)
class Family:
    """A family of banks: what the coefficients of a group are computed from."""

    name: str
    features: str  # CLUSTER | CENTROID | HISTOGRAM


_FAMILIES = {
    "projected": Family("projected", CLUSTER),
    "hypernetwork": Family("hypernetwork", CENTROID),
    "soup": Family("soup", HISTOGRAM),
}


def get(name: str) -> Family:
    """The family of banks of that name."""
    return _FAMILIES[name]


def kind(config: Config) -> str:
    """DENSE, BANK or MIXTURE."""
    if isinstance(config, bank.Config):
        return BANK
    return MIXTURE if isinstance(config, mixture.Config) else DENSE


def expert(
    config: Config, params: Any, features_kxC: np.ndarray, histogram_k: jax.Array
) -> transformer.Params:
    """The small model for a histogram over the clusters (one-hot: one expert)."""
    weights_k = jnp.asarray(histogram_k, jnp.float32)
    if isinstance(config, mixture.Config):
        return mixture.mix(params, weights_k)
    assert isinstance(config, bank.Config)
    if get(config.family).features == HISTOGRAM:
        coefficients_Sxh = bank.coefficients(params.mixer, weights_k[None], config)[0]
    else:
        each_kxSxh = bank.coefficients(params.mixer, jnp.asarray(features_kxC), config)
        coefficients_Sxh = jnp.tensordot(weights_k, each_kxSxh, 1)
    return bank.project(params, coefficients_Sxh, config)


def declare(config: Config) -> Any:
    """The tree of `Tensor` of a model."""
    if isinstance(config, bank.Config):
        return bank.declare(config)
    if isinstance(config, mixture.Config):
        return mixture.declare(config)
    return transformer.declare(config)


def dense(config: Config) -> transformer.Config:
    """The sizes of the dense model that is served."""
    return config if isinstance(config, transformer.Config) else config.model


def from_dense(config: Config, params: transformer.Params) -> Any:
    """Initial parameters whose every expert is the given dense model."""
    if isinstance(config, transformer.Config):
        return params
    assert isinstance(config, mixture.Config)
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (config.num_experts, *leaf.shape)), params
    )


def num_params(config: Config) -> int:
    """Number of scalars of all parameters."""
    return tensors.count(declare(config))


def flops_per_token(config: Config, train: bool, tokens_per_group: int = 0) -> float:
    """As `transformer.flops_per_token`, with the projection of a bank's weights.

    Projecting a group costs h multiply-adds for each weight of the banked MLPs; training three
    times that.

    Args:
      tokens_per_group: over which a projection is shared; 0 leaves it out.
    """
    flops = transformer.flops_per_token(dense(config), train)
    if isinstance(config, bank.Config) and tokens_per_group:
        weights = tensors.count(declare(config).mlp) // config.rank
        flops += (3 if train else 1) * 2 * config.rank * weights / tokens_per_group
    return flops
