"""A new family: a bank whose coefficients are the square root of the cluster histogram.

Set model.bank_size to model.num_experts + 1: the weights that all clusters share, then those of
each.
"""

import jax
import jax.numpy as jnp

from specialm.common.errors import UserError
from specialm.draws import ByHistogram
from specialm.methods import Method, register
from specialm.models import families
from specialm.models.tensors import Tensor


def mixer(config: families.bank.Config) -> dict[str, Tensor]:
    """The coefficients have no parameters."""
    if config.rank != config.num_experts + 1:
        raise UserError(
            f"model.bank_size={config.rank}: a root soup needs model.num_experts + 1 = "
            f"{config.num_experts + 1}."
        )
    return {}


def coefficients(mixer: dict, features_GxC: jax.Array, config: families.bank.Config) -> jax.Array:
    """[G, S, h]: 1 for the shared weights, then a share of `spread` for each cluster's."""
    shared_Gx1 = jnp.ones_like(features_GxC[:, :1])
    root_Gxh = jnp.concatenate([shared_Gx1, config.spread * jnp.sqrt(features_GxC)], axis=1)
    sizes = (len(root_Gxh), len(config.layers), config.rank)
    return jnp.broadcast_to(root_Gxh[:, None], sizes)


families.register(
    families.Family(
        name="root_soup", mixer=mixer, coefficients=coefficients, features=families.HISTOGRAM
    )
)
register(
    Method(
        name="root_soup",
        label="Root soup",
        description="small model mixed by the square root of a histogram of clusters",
        colour="#882255",
        marker="p",
        family="root_soup",
        draws=ByHistogram(),
    )
)
