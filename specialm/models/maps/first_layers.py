"""The first layers of a model, with the head that reads after them if there is one."""

from typing import Any

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.models.config import Config
from specialm.models.maps import axes


def check(source: Config, target: Config) -> None:
    """Raises UserError for other sizes than the number of layers."""
    axes.check(source, target, lambda before, after: after == before, "as it is,")
    if target.num_layers > source.num_layers:
        raise UserError(
            f"model.num_layers={target.num_layers}: must be at most {source.num_layers}."
        )


def apply(params: Any, source: Config, target: Config, noise: float = 0.0) -> Any:
    """Parameters of the shallower model.

    Args:
      noise: none is added.
    """
    made, _ = transformer.first_layers(params, source, target.num_layers)
    made = {**made, "heads": {**made["heads"], **_exits(params, target)}}
    return jax.tree.map(np.asarray, made)


def _exits(params: Any, target: Config) -> Any:
    names = transformer.head_layers(target)
    return {name: params["heads"][name] for name in names if name != transformer.LAST}
