"""The axes of the mesh, which logical axes of tensors lie on them, and what has to divide.

Numbers alone, without JAX: a launcher checks them before there are any devices. The mesh has four
axes. `data`: copies of the model, each with its own windows. `fsdp`: the same, but parameters and
moments are divided as well. `model`: heads and hidden units are divided, all devices work on the
same windows. `expert`: the experts of a mixture, which never communicate.
"""

import math
from collections.abc import Mapping

from ml_collections import ConfigDict

from specialm.common.errors import UserError

DATA, EXPERT = "data", "expert"
FSDP, MODEL = "fsdp", "model"  # as models/placement.py has them, which imports JAX
AXES = (EXPERT, DATA, FSDP, MODEL)
WINDOWS = (EXPERT, DATA, FSDP)  # the axes that windows are divided over
ROWS = (EXPERT, DATA)  # of them, those that rows of devices along `fsdp` are divided over

# Logical axis -> mesh axes. What is not named here is whole on every device.
RULES: dict[str | None, str | tuple[str, ...]] = {
    "batch": WINDOWS,
    "embed": FSDP,
    "heads": MODEL,
    "kv_heads": MODEL,
    "mlp": MODEL,
    "bank": (MODEL, EXPERT, DATA, FSDP),  # d_ff of a bank: its parts are exchanged
    "bank_bias": (MODEL, EXPERT, DATA, FSDP),  # d_model of the bias of its outputs
    "expert": EXPERT,
}
SETTINGS = {
    "embed": "model.d_model",
    "heads": "model.num_heads",
    "kv_heads": "model.num_kv_heads",
    "mlp": "model.d_ff",
    "bank": "model.d_ff",
    "bank_bias": "model.d_model",
    "expert": "model.num_experts",
}


def axis_sizes(devices: int, layout: ConfigDict | dict, experts: int = 1) -> tuple[int, ...]:
    """Devices along each of `AXES`: what no other axis takes is along `data`.

    Args:
      experts: with `layout.expert` 0, as many devices as divide them are along `expert`.

    Raises:
      UserError: the axes do not divide the devices.
    """
    sizes = {axis: int(dict(layout).get(axis, 1)) for axis in (EXPERT, FSDP, MODEL)}
    if sizes[EXPERT] == 0:
        sizes[EXPERT] = math.gcd(experts, max(1, devices // (sizes[FSDP] * sizes[MODEL])))
    taken = math.prod(sizes.values())
    if devices % taken:
        named = ", ".join(f"mesh.{axis}={size}" for axis, size in sizes.items())
        raise UserError(f"{named}: their product does not divide the {devices} devices.")
    return sizes[EXPERT], devices // taken, sizes[FSDP], sizes[MODEL]


def names(axis: str | None) -> tuple[str, ...]:
    """The mesh axes of a logical axis."""
    where = RULES.get(axis)
    return (where,) if isinstance(where, str) else tuple(where or ())


def parts(shape: Mapping[str, int], axis: str | None) -> int:
    """Into how many parts a logical axis is divided.

    Args:
      shape: devices along each axis of the mesh, as `mesh.shape`.
    """
    return math.prod(shape[name] for name in names(axis))


def num_rows(shape: Mapping[str, int]) -> int:
    """Rows of devices along `fsdp` that windows are divided over."""
    return math.prod(shape[name] for name in ROWS)


def check_size(shape: Mapping[str, int], axis: str | None, size: int) -> None:
    """Raises UserError for a logical axis of this size that does not divide over the mesh."""
    if size % parts(shape, axis):
        raise UserError(
            f"{SETTINGS.get(str(axis), axis)}={size} is not a multiple of the "
            f"{parts(shape, axis)} devices that it is divided over "
            f"({' x '.join(names(axis))} of the mesh)."
        )


def check_tokens(shape: Mapping[str, int], tokens: int) -> None:
    """Raises UserError for tokens that do not divide over `model`.

    Args:
      tokens: that a device works on at a time.
    """
    if tokens % shape[MODEL]:
        raise UserError(
            f"mesh.model={shape[MODEL]} does not divide the {tokens} "
            "tokens that a device works on at a time (data.context)."
        )


def check_batch(
    shape: Mapping[str, int], batch_size: int, groups: int = 1, experts: int = 0
) -> None:
    """Raises UserError for a batch that does not divide over the mesh.

    Args:
      groups: of a bank's batch.
      experts: of a mixture; 0 if it is none.
    """
    copies = parts(shape, "batch")
    if batch_size % copies:
        raise UserError(
            f"train.batch_size={batch_size} is not a multiple of the {copies} devices "
            "that windows are divided over."
        )
    rows = num_rows(shape)
    if groups > 1 and groups % copies and groups != rows:
        or_rows = (
            f" or {rows}, one for each {shape[FSDP]} along mesh.fsdp," if rows < copies else ""
        )
        raise UserError(
            f"train.groups={groups} is not a multiple of the {copies} devices that "
            f"windows are divided over (1{or_rows} would do)."
        )
    if experts:
        windows, each = batch_size // experts, copies // shape[EXPERT]
        if windows % each:
            raise UserError(
                f"train.batch_size={batch_size}: an expert's {windows} windows do not divide over "
                f"the {each} devices that train it; set mesh.expert to a larger divisor "
                f"of model.num_experts={experts}."
            )
