"""Going on from a run folder alone, with the config that it carries."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data.prepare import prepare_specialist
from specialm.data.vocabularies import Vocabulary
from specialm.training import origin, runs, sharding
from specialm.workflows import own_text
from specialm.workflows.pipeline import Run


def load(base: Path, overrides: Sequence[str] = (), source: str = "") -> ConfigDict:
    """The config that pretrained the model in the run folder `base`, with `--config.a.b=value`
    overrides; checked and locked.

    Args:
      source: a user's text, see `own_text.with_source`.

    Raises:
      UserError: no run folder, one that carries no settings, or a wrong override or setting.
    """
    record = runs.read_record(base)
    if not record.get("settings"):
        raise UserError(
            f"--checkpoint={base} carries no settings (an earlier version wrote it); "
            "give the --config that it was trained with."
        )
    config = config_lib.default()
    _fill(config, record["settings"])
    if source:
        config = own_text.with_source(config, source, own_text.given(overrides)).unlock()
    argv, values = ["specialm", *overrides], flags.FlagValues()
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=argv
        )
        values(argv)
    except (AttributeError, flags.Error, TypeError, ValueError, KeyError) as error:
        text = " ".join(str(error).replace("\\n", " ").strip("\"'").split())
        raise UserError(f"settings of --checkpoint={base}: {text}") from error
    config = holder.value
    config.lock()
    config_lib.check(config)
    return config


def _fill(config: ConfigDict, saved: dict) -> None:
    """Sets what is saved; a field that is no longer there is left out, and so is the mesh: this
    may be another machine.
    """
    for name, value in saved.items():
        if name not in config or name == "mesh":
            continue
        if name == "domains" and isinstance(value, dict):  # all of them, not on top of the default
            config[name] = ConfigDict(value)
        elif isinstance(config[name], ConfigDict):
            _fill(config[name], value)
        else:
            config[name] = tuple(value) if isinstance(value, list) else value


def open_run(config: ConfigDict, workdir: Path, domains: list[str], base: Path) -> Run:
    """Prepares the domains alone, cut with the vocabulary of the model in `base`: enough to
    specialise and to score it. The generic windows are there if they still lie where they did
    when it was trained.

    Raises:
      UserError: see `data.prepare.prepare`.
    """
    stages, vocabulary = Stages(workdir), Vocabulary(base / "vocabulary.model")
    stores = {
        split: origin.generic_store(base, split, vocabulary.sha256)
        for split in ("train", "heldout")
    }
    prepared = dataclasses.replace(
        prepare_specialist(config, stages, domains, vocabulary),
        generic_splits={split: store for split, store in stores.items() if store is not None},
    )
    mesh = sharding.make_mesh(
        config.train.batch_size, config.finetune.batch_size, layout=config.mesh
    )
    return Run(config, stages, prepared, domains, mesh, base)
