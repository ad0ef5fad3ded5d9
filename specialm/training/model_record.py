"""What `model.json` has to hold: it may come from anybody."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

from specialm.common import shapes
from specialm.common.errors import UserError
from specialm.common.shapes import AMOUNT, FLAG, NAME, NAME_OR_NONE, NUMBER, SIZE, TEXT, WHOLE
from specialm.models import check, families, transformer

CLASSES = {
    families.DENSE: transformer.Config,
    families.BANK: families.bank.Config,
    families.MIXTURE: families.mixture.Config,
}
LAYERS = shapes.Kind("a number of layers", lambda value: SIZE.holds(value) and value <= 10_000)
SIZES = ("vocab_size", "context", "d_model", "num_heads", "d_ff", "num_experts", "rank")
STORE = {"path": TEXT, "fingerprint": TEXT}
ENTRY = {
    "phase": TEXT,
    "flops": AMOUNT,
    "tokens": AMOUNT,
    "seconds": AMOUNT,
    "devices?": SIZE,
    "domain?": NAME_OR_NONE,
}
# A checkpoint that others trained: its name, where it was, its licence and hash, and the longest
# window that it was made for.
IMPORTED = {
    "name": TEXT,
    "format": TEXT,
    "source": TEXT,
    "licence": TEXT,
    "sha256": TEXT,
    "architecture": TEXT,
    "context": SIZE,
}
# What was trained of a model that LoRA tuned (`training/adapters.py`).
ADAPTERS = {
    "base": TEXT,
    "rank": WHOLE,
    "alpha": NUMBER,
    "matrices": [TEXT],
    "ranks": shapes.OBJECT,
    "dora": FLAG,
}
KIND = shapes.Kind(
    f"one of {', '.join(CLASSES)}", lambda value: isinstance(value, str) and value in CLASSES
)
RECORD = {
    "kind?": KIND,
    "format?": WHOLE,
    "model": shapes.OBJECT,
    "vocabulary_sha256": TEXT,
    "method": NAME,
    "domain": NAME_OR_NONE,
    "seed": WHOLE,
    "ledger": [ENTRY],
    "settings?": shapes.OBJECT,
    "imported?": IMPORTED,
    "adapters?": ADAPTERS,
    "generic?": {"train?": STORE, "heldout?": STORE},
}
OF_TYPE: dict[Any, shapes.Shape] = {
    int: WHOLE,
    float: NUMBER,
    bool: FLAG,
    str: TEXT,
    tuple[int, ...]: [WHOLE],
    tuple[str, ...]: [TEXT],
}


def check_record(file: Path, record: Any) -> None:
    """Raises UserError, with the file and the key, for a record that no run folder has."""
    # What `model` holds is another matter: another format has other fields.
    wrong = shapes.problem(record, RECORD)
    if wrong:
        raise damaged(file, wrong)


def model_config(file: Path, record: dict) -> families.Config:
    """The sizes of the model.

    Raises:
      UserError: with the file and the key, for those that make none.
    """
    kind = record.get("kind", families.DENSE)
    shape = _shape_of(CLASSES[kind])
    wrong = shapes.problem(record["model"], shape, "model") or _unknown(
        record["model"], shape, "model"
    )
    if wrong:
        raise damaged(file, wrong)
    try:
        config = families.from_record(kind, record["model"])
        check.check(families.dense(config))
        families.declare(config)
    except UserError as error:
        raise damaged(file, str(error).rstrip(".")) from error
    except Exception as error:  # sizes that do not fit together, in any way
        raise damaged(file, f"model makes no model ({type(error).__name__}: {error})") from error
    return config


def damaged(file: Path, wrong: str) -> UserError:
    """The error for what is wrong in a `model.json`."""
    return UserError(f"{file}: {wrong}; restore the file, or train the model again.")


def _shape_of(config_class: Any) -> dict:
    """{field: shape} of a dataclass, from the types of its fields."""
    types = typing.get_type_hints(config_class)
    shape: dict[str, shapes.Shape] = {}
    for field in dataclasses.fields(config_class):
        of, has_default = types[field.name], field.default is not dataclasses.MISSING
        value = _shape_of(of) if dataclasses.is_dataclass(of) else OF_TYPE[of]
        value = {"num_layers": LAYERS, **dict.fromkeys(SIZES, SIZE)}.get(field.name, value)
        shape[field.name + "?" * has_default] = value
    return shape


def _unknown(value: dict, shape: dict, place: str) -> str:
    """What is there and no field of this version."""
    known = {name.removesuffix("?"): of for name, of in shape.items()}
    for name, item in value.items():
        if name not in known:
            return f"{place}.{name} is no field of this version"
        if isinstance(known[name], dict) and (
            wrong := _unknown(item, known[name], f"{place}.{name}")
        ):
            return wrong
    return ""
