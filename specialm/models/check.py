"""Whether an architecture can be built: every choice against its table, every size.

A size that one part alone reads is checked by that part (`Part.check`).
"""

from collections.abc import Mapping
from typing import Any

from specialm.common.errors import UserError
from specialm.models.config import Config
from specialm.models.parts.embedders import EMBEDDERS
from specialm.models.parts.heads import HEADS
from specialm.models.parts.mlps import MLPS
from specialm.models.parts.norms import NORMS
from specialm.models.parts.positions import POSITIONS

TABLES: dict[str, Mapping[str, Any]] = {
    "norm": NORMS,
    "positions": POSITIONS,
    "mlp": MLPS,
    "embedder": EMBEDDERS,
    "head": HEADS,
}


def check(config: Config) -> None:
    """Raises UserError for a part that there is not, or sizes that make no transformer."""
    for field, table in TABLES.items():
        value = getattr(config, field)
        if value not in table:
            raise UserError(f"model.{field}={value!r}: must be one of {', '.join(table)}.")
    if config.num_kv_heads < 0 or config.num_heads % config.kv_heads:
        raise UserError(
            f"model.num_kv_heads={config.num_kv_heads} does not divide "
            f"model.num_heads={config.num_heads}; 0 gives every head its own keys."
        )
    if config.size_of_head < 1:
        raise UserError(
            f"model.head_size={config.head_size}: must be at least 1, or 0 for "
            "model.d_model / model.num_heads."
        )
    if not 0 < config.norm_epsilon < float("inf"):
        raise UserError(f"model.norm_epsilon={config.norm_epsilon}: must be above 0, finite.")
    for field, table in TABLES.items():
        table[getattr(config, field)].check(config)
    _check_exits(config)


def _check_exits(config: Config) -> None:
    exits = config.exits
    if len(set(exits)) < len(exits) or any(not 0 < y < config.num_layers for y in exits):
        raise UserError(
            f"model.exits={exits}: must be different layers, from 1 to "
            f"{config.num_layers - 1} (model.num_layers={config.num_layers})."
        )
    if not 0 <= config.exit_weight <= 1:
        raise UserError(f"model.exit_weight={config.exit_weight}: must be between 0 and 1.")
