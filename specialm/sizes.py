"""Checks of the sizes of banks and mixtures: the settings under `model`."""

from ml_collections import ConfigDict

from specialm.common.errors import UserError
from specialm.models import sharing


def check(model: ConfigDict, method: str, is_mixture: bool) -> None:
    """Raises UserError for sizes that make no model.

    Args:
      method: its name, for the error.
      is_mixture: whether its experts share nothing.
    """
    _check_only_expert(model, method, is_mixture)
    for name in ("bank_size", "code_size", "mixer_hidden"):
        least = 1 if name == "mixer_hidden" else 0
        if model[name] < least:
            raise UserError(f"model.{name}={model[name]}: must be at least {least}.")
    _check_layers(model)


def _check_only_expert(model: ConfigDict, method: str, is_mixture: bool) -> None:
    k = model.num_experts
    if not -1 <= model.only_expert < k:
        raise UserError(
            f"model.only_expert={model.only_expert}: must be one of 0 to {k - 1} "
            f"(model.num_experts={k}), or -1 for all."
        )
    if model.only_expert >= 0 and not is_mixture:
        raise UserError(
            f"model.only_expert={model.only_expert}: the experts of {method} share "
            "parameters; only those of a mixture can be trained alone."
        )


def _check_layers(model: ConfigDict) -> None:
    layers = tuple(model.bank_layers)
    if len(set(layers)) < len(layers):
        raise UserError(f"model.bank_layers={layers}: a layer is named twice.")
    stored = len(set(sharing.rows("mlp", model)))
    outside = [y for y in layers if not 0 <= y < stored]
    if outside:
        raise UserError(
            f"model.bank_layers={layers}: layer {outside[0]} does not exist, there are "
            f"model.num_layers={model.num_layers}"
            + (f", which share {stored} sets of MLP weights." if model.share else ".")
        )
