"""The family of one: a single set of weights with the coefficient 1, the dense model itself."""

import jax
import jax.numpy as jnp

from specialm.models.families.record import Family, register
from specialm.models.tensors import Tensor

NAME = "dense"


def _mixer(config) -> dict[str, Tensor]:
    return {}


def _coefficients(mixer: dict, features_GxC: jax.Array, config) -> jax.Array:
    return jnp.ones((len(features_GxC), len(config.layers), config.rank))


register(Family(NAME, _mixer, _coefficients))
