"""What a model has seen inside: final states, and queries, keys and values of one layer."""

from typing import Any

import jax

from specialm.models import transformer
from specialm.models.config import Config
from specialm.models.parts import attention
from specialm.models.parts.norms import NORMS
from specialm.models.placement import Placement
from specialm.models.transformer import Params


def seen(
    params: Params, inputs_BxL: jax.Array, config: Config, place: Placement, number: int
) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
    """(final states, what they meet, the vectors of one layer), inside of a `jax.shard_map`
    without an axis `model`: see `states`; {"q": [B, L, H, A], "k", "v": [B, L, J, A]}.

    Args:
      number: of the layer, counted from 0.
    """
    params, length = transformer.gather_ends(params, config, place), inputs_BxL.shape[1]
    last = config.num_layers
    passed = transformer.passed_states(params, inputs_BxL, config, place, None, {number, last})
    layers = (transformer.all_layers(params, config, place), attention.local_layers(config))
    w, is_local = jax.tree.map(lambda leaf: leaf[number], layers)
    axes = transformer.layer_axes(config, place)
    w = {name: place.gather(w[name], axes[name], config.dtype) for name in ("norm1", "attention")}
    x_TxD = NORMS[config.norm].apply(w["norm1"], passed[number], config.norm_epsilon)
    found = attention.project(w["attention"], x_TxD, length, 0, config, place, is_local)
    vectors = dict(zip(("q", "k", "v"), found, strict=True))
    return (
        transformer.normed(params, transformer.LAST, passed[last], config),
        transformer.head_meets(params, config),
        vectors,
    )
