"""What is the same for every kind of model: dense, bank or mixture, by its config.

Importing this fills the table of the families of banks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from specialm.models import tensors, transformer
from specialm.models.families import bank, hypernetwork, mixture, one, projected, soup  # noqa: F401
from specialm.models.families.record import (  # noqa: F401
    CENTROID,
    CLUSTER,
    FAMILIES,
    HISTOGRAM,
    Family,
    get,
    register,
)

Config = transformer.Config | bank.Config | mixture.Config
DENSE, BANK, MIXTURE = KINDS = ("dense", "bank", "mixture")
PROJECTED, HYPERNETWORK, SOUP = projected.NAME, hypernetwork.NAME, soup.NAME


def kind(config: Config) -> str:
    """One of KINDS."""
    if isinstance(config, bank.Config):
        return BANK
    return MIXTURE if isinstance(config, mixture.Config) else DENSE


def from_record(kind: str, sizes: dict[str, Any]) -> Config:
    """The config whose fields `dataclasses.asdict` gave, as JSON holds them."""
    fields: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in sizes.items()
    }
    if kind == DENSE:
        return transformer.Config(**fields)
    fields["model"] = from_record(DENSE, sizes["model"])
    return bank.Config(**fields) if kind == BANK else mixture.Config(**fields)


def declare(config: Config) -> tensors.Tree:
    """The tree of `Tensor` of a model."""
    if isinstance(config, bank.Config):
        return bank.declare(config)
    if isinstance(config, mixture.Config):
        return mixture.declare(config)
    return transformer.declare(config)


def dense(config: Config) -> transformer.Config:
    """The sizes of the dense model that is served."""
    return config if isinstance(config, transformer.Config) else config.model


def from_dense(config: Config, params: transformer.Params, key: jax.Array) -> Any:
    """Initial parameters all of whose experts are this dense model.

    Args:
      key: of what a bank's coefficients are computed with.
    """
    if isinstance(config, mixture.Config):
        return mixture.from_dense(params, config)
    return bank.from_dense(params, config, key) if isinstance(config, bank.Config) else params


def expert(
    config: Config, params: Any, features_kxC: jax.Array | np.ndarray, histogram_k: jax.Array
) -> transformer.Params:
    """The small model for a histogram over the clusters (one-hot: one expert) of a bank or mixture.

    A family that reads histograms gets this one; of the others it is the mean of the experts'
    coefficients, which for a projected network is exact: E = sum_i p_i E_i.

    Args:
      features_kxC: what a bank knows of each cluster.
    """
    if isinstance(config, mixture.Config):
        return mixture.mix(params, histogram_k)
    assert isinstance(config, bank.Config)
    mixer = params.get("mixer", {})
    if get(config.family).features == HISTOGRAM:
        coefficients_Sxh = bank.coefficients(mixer, histogram_k[None], config)[0]
    else:
        each_kxSxh = bank.coefficients(mixer, jnp.asarray(features_kxC), config)
        coefficients_Sxh = jnp.tensordot(histogram_k, each_kxSxh, 1)
    return bank.project(params, coefficients_Sxh, config)


def constants(config: Config, pieces: list[bytes | None]) -> dict[str, Any]:
    """As `transformer.constants`, for `tensors.init`."""
    return transformer.constants(dense(config), pieces)


def num_params(config: Config) -> int:
    """Number of scalars of all parameters."""
    return tensors.count(declare(config))


def flops_per_token(config: Config, train: bool, tokens_per_group: int = 0) -> float:
    """As `transformer.flops_per_token`, with the projection of a bank's weights.

    Projecting a group costs h multiply-adds for each weight of the banked parts; training three
    times that.

    Args:
      tokens_per_group: over which a projection is shared; 0 leaves it out.
    """
    flops: float = transformer.flops_per_token(dense(config), train)
    if isinstance(config, bank.Config) and tokens_per_group:
        weights = tensors.count(declare(config)["bank"]) // config.rank
        flops += (3 if train else 1) * 2 * config.rank * weights / tokens_per_group
    return flops
