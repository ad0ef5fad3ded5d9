"""A user's own text as a domain: all of it, and as many steps as it takes."""

import copy
import dataclasses
from collections.abc import Collection, Sequence

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.data.sources import resolve_source
from specialm.specialize import budget
from specialm.workflows.pipeline import Run

# A user's own text is used whole, and trained on until validation stops improving. The defaults of
# these settings are those of comparisons between methods, on specialist sets of one size. How they
# were chosen: docs/specialisation.md.
SETTINGS = {
    "data.specialist_tokens": 0,
    "finetune.max_steps": 20_000,
    "finetune.max_epochs": 30.0,
    "finetune.patience": 8,
}
PACE = "finetune.eval_every"  # likewise, see `paced`


def given(overrides: Sequence[str], config: ConfigDict | None = None) -> set[str]:
    """The settings that a user gave: in `--config.a.b=value`, or in a config file as far as a text
    of one's own has other defaults.
    """
    names = {override.partition("=")[0].removeprefix("--config.") for override in overrides}
    if config is not None:
        of_file, default = config.to_dict(), config_lib.default().to_dict()
        for name in (*SETTINGS, PACE):
            section, setting = name.split(".")
            if of_file[section][setting] != default[section][setting]:
                names.add(name)
    return names


def with_source(
    config: ConfigDict, source: str, keep: Collection[str] = (), name: str = ""
) -> ConfigDict:
    """The config with a user's text as its one domain, and with the settings of `SETTINGS`.

    Args:
      source: a source (see `data/sources.py`), or the path of a file or a folder.
      keep: settings that stay as they are, see `given`.
      name: of the domain; "" for that of the file or the folder.

    Raises:
      UserError: neither a source nor a path that is there.
    """
    found, spec = resolve_source(source)
    name = name or found
    changed = copy.deepcopy(config).unlock()
    changed.data.domains = ConfigDict({name: spec})
    changed.domain, changed.domains = name, ()
    for field, value in SETTINGS.items():
        if field not in keep:
            section, setting = field.split(".")
            changed[section][setting] = value
    return changed.lock()


def paced(run: Run, source: str, keep: Collection[str] = ()) -> Run:
    """The same run; on a large text of a user it validates less often (`budget.eval_every`).

    Args:
      source: the user's text; "" if there is none.
      keep: settings that stay as they are, see `given`.
    """
    if not source or PACE in keep:
        return run
    config = copy.deepcopy(run.config).unlock()
    windows = run.prepared.specialist_indices(config.domain, config.data)["train"]
    config.finetune.eval_every = budget.eval_every(config.finetune, len(windows))
    return dataclasses.replace(run, config=config.lock())
