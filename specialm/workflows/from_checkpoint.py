"""Going on from a run folder alone, with the config that it carries."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import methods
from specialm.common import shapes
from specialm.common.errors import UserError
from specialm.common.names import is_name
from specialm.common.stages import Stages
from specialm.data import vocabularies
from specialm.data.prepare import prepare_generic, prepare_specialist
from specialm.data.sources import resolve_source
from specialm.data.store import WindowStore
from specialm.models import families, transformer
from specialm.settings import SETTINGS
from specialm.training import model_record, origin, runs, sharding
from specialm.workflows import own_text, trust
from specialm.workflows.pipeline import Run


def load(
    base: Path,
    overrides: Sequence[str] = (),
    source: str = "",
    trusted: bool = False,
    must_carry: bool = True,
    name: str = "",
) -> ConfigDict:
    """The config that pretrained the model in the run folder `base`, with `--config.a.b=value`
    overrides; checked and locked.

    Args:
      source: a user's text, see `own_text.with_source`.
      trusted: whether modules and places that the folder names hold, see `trust.py`.
      name: of the user's text, see there.
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
    config = config_lib.default()
    if trusted:
        modules = saved.get("method_modules", ())  # they may have settings of their own
        methods.import_modules(modules)
    config = config_lib.default()
    _fill(config, saved, base / "model.json")
    if not trusted:
        trust.check_links(base)
        config = trust.without_others(config, config_lib.default())
    if source:
        config = own_text.with_source(config, source, own_text.given(overrides), name)
    try:
        return config_lib.finish(config, overrides)
    except UserError as error:
        if not trusted:
            trust.check_methods(config, saved, base)
        raise UserError(f"settings of --checkpoint={base}: {error}") from error


def _fill(config: ConfigDict, saved: dict, file: Path, place: str = "settings") -> None:
    """Sets what is saved; a field that is no longer there is left out, and so is the mesh: this
    may be another machine.

    Raises:
      UserError: a value of another type than the setting has.
    """
    for name, value in saved.items():
        if name not in config or name == "mesh":
            continue
        setting = SETTINGS.get(f"{place}.{name}".removeprefix("settings."))
        shape = SCALAR if setting and setting.words else _shape(name, config[name])
        wrong = shapes.problem(value, shape, f"{place}.{name}")
        if wrong:
            raise model_record.damaged(file, wrong)
        if name == "domains" and isinstance(value, dict):  # all of them, not on top of the default
            config[name] = ConfigDict(value)
        elif isinstance(config[name], ConfigDict):
            _fill(config[name], value, file, f"{place}.{name}")
        else:
            config[name] = tuple(value) if isinstance(value, list) else value


def _shape(name: str, default) -> shapes.Shape:
    """What a setting may be, by its default; of an empty list not more than that it is one."""
    if name == "domains" and isinstance(default, ConfigDict):
        return DOMAINS
    if isinstance(default, ConfigDict):
        return shapes.OBJECT
    if isinstance(default, tuple):
        return [_shape("", default[0]) if default else SCALAR]
    return OF_TYPE[type(default)]


def _is_domain(name: str) -> bool:
    return is_name(name) and "." not in name  # a ConfigDict takes none


OF_TYPE: dict[type, shapes.Shape] = {
    bool: shapes.FLAG,
    int: shapes.WHOLE,
    float: shapes.NUMBER,
    str: shapes.TEXT,
}
SCALAR = shapes.Kind("a text or a number", lambda value: isinstance(value, str | int | float))
DOMAINS = shapes.Kind(
    "an object of names and sources",
    lambda value: (
        isinstance(value, dict)
        and all(_is_domain(name) and isinstance(spec, str) for name, spec in value.items())
    ),
)


def open_run(
    config: ConfigDict,
    workdir: Path,
    domains: list[str],
    base: Path,
    trusted: bool = False,
    generic: str = "",
    trained: bool = False,
) -> Run:
    """Prepares the domains alone, cut with the vocabulary of the model in `base`: enough to
    specialise and to score it. The generic windows are there if they still lie where they did
    when it was trained, or if their source is given.

    Args:
      generic: a source or a path of generic text: it is held out, and replayed if
        `finetune.replay_fraction` says so.
      trained: it is trained on otherwise.

    Raises:
      UserError: see `data.prepare.prepare`.
    """
    if not trusted:
        trust.check_domains(config, domains, base)
    stages, vocabulary = Stages(workdir), vocabularies.of_run(base)
    stores = (
        _given_generic(config, stages, vocabulary, generic, trained)
        if generic
        else {
            split: origin.generic_store(base, split, vocabulary.sha256, trusted)
            for split in ("train", "heldout")
        }
    )
    prepared = dataclasses.replace(
        prepare_specialist(config, stages, domains, vocabulary),
        generic_splits={split: store for split, store in stores.items() if store is not None},
    )
    model = model_record.model_config(base / "model.json", runs.read_record(base))
    mesh = sharding.make_mesh(
        config.train.batch_size,
        config.finetune.batch_size,
        layout=config.mesh,
        params=transformer.num_params(families.dense(model)),
    )
    return Run(config, stages, prepared, domains, mesh, base)


def _given_generic(
    config: ConfigDict,
    stages: Stages,
    vocabulary: vocabularies.Vocabulary,
    source: str,
    trained: bool,
) -> dict[str, WindowStore | None]:
    """{split: windows} of a user's generic text."""
    changed = copy.deepcopy(config).unlock()
    changed.data.generic = resolve_source(source, "generic")[1]
    trained = trained or bool(config.finetune.replay_fraction)
    splits = ("train", "heldout") if trained else ("heldout",)
    return dict(prepare_generic(changed, stages, vocabulary, splits))
