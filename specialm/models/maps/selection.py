"""Weight selection: a small model out of a larger one's numbers (Xu et al., arXiv 2311.18823).

Section 3.1: of the layers the first, of every axis evenly spaced indices. Our reading: heads are
taken whole, group after group, and the residual stream has one index set in all layers, embeddings
and heads.
"""

from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.models.config import Config
from specialm.models.maps import axes


def check(source: Config, target: Config) -> None:
    """Raises UserError for a size that is larger than that of the source."""
    axes.check(source, target, lambda before, after: after <= before, "at most")
    if target.num_layers > source.num_layers:
        raise UserError(
            f"model.num_layers={target.num_layers}: must be at most {source.num_layers}."
        )


def apply(params: Any, source: Config, target: Config, noise: float = 0.0) -> Any:
    """Parameters of the smaller model.

    Args:
      noise: none is added.
    """
    chosen = {
        name: np.arange(after) * before // after
        for (name, before), after in zip(
            axes.sizes(source).items(), axes.sizes(target).values(), strict=True
        )
    }
    return axes.mapped(params, source, target, chosen)
