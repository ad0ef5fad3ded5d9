"""Whether an architecture can be built: every choice against its table, every size.

A config is checked before JAX is imported, so nothing here needs it.
"""

from collections.abc import Callable

from specialm.common.errors import UserError
from specialm.common.setting import settings_of
from specialm.models import sharing
from specialm.models.config import Config

SETTINGS = settings_of(Config, "model")


def check(config: Config) -> None:
    """Raises UserError for a part that there is not, or sizes that make no transformer."""
    for setting in SETTINGS:
        setting.check(getattr(config, setting.field))
        setting.check_division(lambda name: getattr(config, name.removeprefix("model.")))
    if config.size_of_head < 1:
        raise UserError(
            f"model.num_heads={config.num_heads}: must be at most model.d_model={config.d_model}, "
            "or model.head_size at least 1."
        )
    _check_exits(config)
    _check_windows(config)
    sharing.check(config)
    for field in ("embedder", "norm", "positions", "mlp", "head"):
        RULES.get((field, getattr(config, field)), _any_sizes)(config)


def _check_exits(config: Config) -> None:
    exits = config.exits
    if len(set(exits)) < len(exits) or any(not 0 < y < config.num_layers for y in exits):
        raise UserError(
            f"model.exits={exits}: must be different layers, from 1 to "
            f"{config.num_layers - 1} (model.num_layers={config.num_layers})."
        )


def _check_windows(config: Config) -> None:
    if config.sliding_window and not config.causal:
        raise UserError(
            f"model.sliding_window={config.sliding_window}: windows look back only; set "
            "model.causal=True."
        )
    kernels = ("splash", "cudnn")
    if 0 < config.sliding_window < config.context and config.attention in kernels:
        raise UserError(
            f"model.attention={config.attention!r} has no windows shorter than "
            f"data.context={config.context} (model.sliding_window={config.sliding_window}); set "
            "it to 'auto'."
        )


def _any_sizes(config: Config) -> None:
    """The rule of most parts."""


def _even_heads(config: Config) -> None:
    if config.size_of_head % 2:
        raise UserError(
            f"model.positions='rope' turns pairs of numbers, but a head has "
            f"{config.size_of_head}; set model.head_size to an even number."
        )


def _some_rank(config: Config) -> None:
    if not config.embed_rank:
        raise UserError(
            "model.embed_rank=0: model.embedder='factored' has so many numbers for each token; set "
            "it to 1 or more."
        )


def _byte_codes(config: Config) -> None:
    if config.embedder != "bytes":
        raise UserError(
            f"model.head={config.head!r} reads the bytes of model.embedder='bytes', which "
            f"{config.embedder!r} has not; set model.embedder='bytes'."
        )


def _byte_heads(config: Config) -> None:
    if config.byte_size % config.byte_heads:
        raise UserError(
            f"model.byte_heads={config.byte_heads} does not divide "
            f"model.byte_size={config.byte_size}."
        )


def _ngram_rows(config: Config) -> None:
    count = (config.ngram_order - 1) * config.ngram_rows
    if count > 1 << 24:
        raise UserError(
            f"model.ngram_rows={config.ngram_rows}: with model.ngram_order={config.ngram_order} "
            f"that is a table of {count:,} rows; set it to at most "
            f"{(1 << 24) // (config.ngram_order - 1):,}."
        )


# (field, part) -> raises UserError for sizes that this part cannot have.
RULES: dict[tuple[str, str], Callable[[Config], None]] = {
    ("positions", "rope"): _even_heads,
    ("embedder", "bytes"): _byte_heads,
    ("embedder", "ngrams"): _ngram_rows,
    ("embedder", "factored"): _some_rank,
    ("head", "bytes"): _byte_codes,
    ("head", "bytes_in_turn"): _byte_codes,
}
