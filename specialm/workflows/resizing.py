"""A model of other sizes out of a trained one, as a run folder: `specialm init`."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stage, Stages
from specialm.models import check, families, maps, transformer
from specialm.settings import SETTINGS
from specialm.training import origin, runs, sharding
from specialm.workflows.initial import Initial

PHASE = "initialised"
SIZES = ("num_layers", "d_model", "num_heads", "num_kv_heads", "d_ff")


def target_sizes(source: transformer.Config, overrides: Sequence[str]) -> transformer.Config:
    """The sizes that were asked for; all others, and the size of a head, are the source's.

    Raises:
      UserError: none was, or one that cannot be changed.
    """
    if not overrides:
        raise UserError(
            "init needs sizes: one or more of "
            f"{', '.join(f'--config.model.{name}=...' for name in SIZES)}."
        )
    changes: dict[str, int] = {}
    for override in overrides:
        name, _, text = override.removeprefix(config_lib.FLAG).partition("=")
        field = name.removeprefix("model.")
        if f"model.{field}" != name or field not in SIZES:
            raise UserError(
                f"{override}: init changes sizes alone: {', '.join(f'model.{n}' for n in SIZES)}."
            )
        config = config_lib.default()
        config_lib.override(config, f"{name}={text}", config_lib.FLAG)
        changes[field] = config.model[field]
        SETTINGS[name].check(changes[field])
    target = _with(source, changes)
    check.check(target)
    return target


def _with(source: transformer.Config, changes: dict[str, int]) -> transformer.Config:
    """The source with other sizes; what follows from other sizes by default stays unsaid."""
    sizes: dict[str, Any] = {name: getattr(source, name) for name in SIZES} | changes
    heads, size = sizes["num_heads"], source.size_of_head
    if "num_kv_heads" not in changes and source.kv_heads < source.num_heads:
        sizes["num_kv_heads"] = source.kv_heads
    default = not source.head_size and heads * size == sizes["d_model"]
    exits = tuple(y for y in source.exits if y < sizes["num_layers"])
    return dataclasses.replace(source, exits=exits, head_size=0 if default else size, **sizes)


def resize(
    base: Initial, method: str, target: transformer.Config, noise: float, workdir: Path
) -> Stage:
    """The run folder of the model of the sizes `target`.

    Args:
      method: one of `maps.MAPS`.
      noise: see `maps/hypercloning.py`.

    Raises:
      UserError: no such method, or sizes that it cannot give.
    """
    if method not in maps.MAPS:
        raise UserError(f"--method={method}: must be one of {', '.join(maps.MAPS)}.")
    if noise < 0:
        raise UserError(f"--noise={noise}: must be at least 0.")
    maps.MAPS[method].check(base.config, target)
    inputs = {"base": base.key, "map": method, "noise": noise, "model": dataclasses.asdict(target)}
    return Stages(workdir).run(
        f"pretrained/{base.record['method']}-{method.replace('_', '-')}",
        inputs,
        lambda path: _write(path, base, method, target, noise),
    )


def _write(
    path: Path, base: Initial, method: str, target: transformer.Config, noise: float
) -> dict:
    started = time.perf_counter()
    model = runs.load(base.path, sharding.make_mesh())
    params = maps.MAPS[method].apply(jax.device_get(model.params), base.config, target, noise)
    runs.save(path, params)
    entry = {
        "phase": PHASE,
        "tokens": 0,
        "flops": 0,
        "seconds": time.perf_counter() - started,
        "note": f"{method} from a model of {families.num_params(base.config):,} parameters",
    }
    record = base.record
    about = origin.inherited(base.path, path)
    if "settings" in about:
        about["settings"] = _with_sizes(about["settings"], target)
    runs.describe(
        path,
        target,
        model.vocabulary,
        record["method"],
        record["domain"],
        record["seed"],
        [*record["ledger"], entry],
        about,
    )
    return {
        "parameters": families.num_params(target),
        "of": families.num_params(base.config),
        "seconds": entry["seconds"],
    }


def _with_sizes(settings: dict, target: transformer.Config) -> dict:
    model = settings.get("model", {})
    names = (*SIZES, "head_size", "exits")
    return {**settings, "model": {**model, **{name: getattr(target, name) for name in names}}}


def summary(stage: Stage) -> str:
    """What was made, for people."""
    found = stage.result
    return f"{stage.path}: {found['parameters']:,} parameters out of {found['of']:,}"
