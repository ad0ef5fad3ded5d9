"""Adapters of a run folder that LoRA tuned: what they are, where their base lies, their factors.

The checkpoint is the merged, dense model; the factors lie beside it in the same step, and
model.json says in `adapters` what they are of.
"""

import dataclasses
import os
from pathlib import Path

import jax

from specialm.common.errors import UserError
from specialm.models import families, lora, tensors
from specialm.training import model_record, runs, sharding
from specialm.training.checkpoints import Checkpoints, with_sharding


def describe(config: lora.Config | None, base: Path, path: Path) -> dict:
    """What goes into the `model.json` of the run folder `path`, tuned from `base`; {} if no
    adapters were.
    """
    if config is None:
        return {}
    values = dataclasses.asdict(config) | {"ranks": dict(config.ranks)}
    return {"adapters": {"base": _relative(base, path), **values}}


def copied(source: Path, path: Path) -> dict:
    """The same for `path`, a copy of the run folder `source`."""
    known = runs.read_record(source).get("adapters")
    return {"adapters": known | {"base": _relative(source / known["base"], path)}} if known else {}


def _relative(base: Path, path: Path) -> str:
    return os.path.relpath(os.path.realpath(base), os.path.realpath(path))


def read(model: runs.Model) -> tuple[lora.Config, lora.Adapters]:
    """The adapters that the dense `model` was merged with.

    Raises:
      UserError: there are none, or they cannot be read.
    """
    known = model.record.get("adapters")
    if not known:
        raise UserError(
            f"--checkpoint={model.path}: has no adapters; fine-tune with finetune.lora_rank above "
            "0 (runs of earlier versions did not keep them)."
        )
    given = {name: value for name, value in known.items() if name != "base"}
    ranks = tuple((name, rank) for name, rank in known["ranks"].items())
    config = lora.Config(**{**given, "matrices": tuple(known["matrices"]), "ranks": ranks})
    mesh = sharding.make_mesh()
    try:
        if not all(isinstance(rank, int) and rank > 0 for _, rank in ranks):
            raise TypeError(f"ranks={dict(ranks)}")
        declared = lora.declare(families.dense(model.config), config)
    except (LookupError, TypeError, ValueError) as error:
        raise model_record.damaged(
            model.path / "model.json", f"adapters: make none ({type(error).__name__}: {error})"
        ) from error
    everywhere = tensors.map_tensors(lambda _: sharding.replicated(mesh), declared)
    wanted = with_sharding(tensors.abstract(declared), everywhere)
    with Checkpoints(model.path / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore_finished(jax.tree.map(_like, model.params), wanted)
    if found is None:
        raise UserError(f"--checkpoint={model.path}: no checkpoint was finished there.")
    return config, found[2]


def base(model: runs.Model) -> Path | None:
    """The run folder that `model` was tuned from, if it still lies where it did."""
    path = Path(os.path.normpath(model.path / model.record["adapters"]["base"]))
    return path if (path / "model.json").is_file() else None


def _like(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
