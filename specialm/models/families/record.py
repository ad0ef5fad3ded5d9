"""The families of banks: how the coefficients of a group's weights come about, one file each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from specialm.common.errors import UserError
from specialm.models.tensors import Tensor

# What a bank knows of a group of windows (its features), and so of an expert.
CLUSTER = "cluster"  # the one-hot vector of its cluster; linear in it, so histograms are means
CENTROID = "centroid"  # the centroid of its cluster
HISTOGRAM = "histogram"  # its histogram over the clusters


@dataclass(frozen=True)
class Family:
    """One family of banks."""

    name: str
    mixer: Callable[[Any], dict[str, Tensor]]  # of a bank's Config: what computes coefficients
    # (mixer, features [G, C], Config) -> [G, S, h]
    coefficients: Callable[[dict[str, jax.Array], jax.Array, Any], jax.Array]
    features: str = CLUSTER  # CLUSTER | CENTROID | HISTOGRAM


FAMILIES: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Adds a family to the table."""
    FAMILIES[family.name] = family
    return family


def get(name: str) -> Family:
    """The family of this name.

    Raises:
      UserError: there is none.
    """
    if name not in FAMILIES:
        raise UserError(f"{name!r} is no family of banks; there are {', '.join(FAMILIES)}.")
    return FAMILIES[name]
