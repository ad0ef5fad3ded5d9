"""Going on from a run folder alone, with the config that it carries."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import methods
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data.prepare import prepare_specialist
from specialm.data.vocabularies import Vocabulary
from specialm.training import origin, runs, sharding
from specialm.workflows import own_text
from specialm.workflows.pipeline import Run


def load(
    base: Path, overrides: Sequence[str] = (), source: str = "", must_carry: bool = True
) -> ConfigDict:
    """The config that pretrained the model in the run folder `base`, with `--config.a.b=value`
    overrides; checked and locked.

    Args:
      source: a user's text, see `own_text.with_source`.
      must_carry: False takes the defaults if an earlier version wrote `base` without settings.

    Raises:
      UserError: no run folder, one that carries no settings, or a wrong override or setting.
    """
    saved = runs.read_record(base).get("settings", {})
    if must_carry and not saved:
        raise UserError(
            f"--checkpoint={base} carries no settings (an earlier version wrote it); "
            "give the --config that it was trained with."
        )
    methods.import_modules(saved.get("method_modules", ()))  # they may have settings of their own
    config = config_lib.default()
    _fill(config, saved)
    if source:
        config = own_text.with_source(config, source, own_text.given(overrides))
    return config_lib.finish(config, overrides)


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
