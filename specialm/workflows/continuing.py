"""The config of a pretraining that goes on from a model, whose sizes and vocabulary hold."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.data import vocabularies
from specialm.data.sources import WITHHELD
from specialm.models import transformer
from specialm.workflows import from_checkpoint
from specialm.workflows.initial import FREE, Initial

CONTEXT, VOCABULARY = "data.context", "data.vocabulary"


def load_config(
    init: Initial, config_path: str, overrides: Sequence[str], trusted: bool
) -> ConfigDict:
    """The config of a pretraining that goes on from `init`: a file's, else the one that its run
    folder carries, with its sizes and its vocabulary.

    Raises:
      UserError: a setting that was given contradicts them; see `config.load`.
    """
    if config_path:
        config = config_lib.load(config_path, overrides)
        given = _given(overrides) | _changed(config)
    else:
        config = from_checkpoint.load(init.path, overrides, trusted=trusted)
        given = _given(overrides)
        if config.data.generic.startswith(WITHHELD):
            raise UserError(
                f"--init={init.path}: its model.json names "
                f"{config.data.generic.removeprefix(WITHHELD)} as the generic text. What a run "
                "folder names outside of itself is not opened; if you trust it add --trust, or "
                "give the text with --config.data.generic."
            )
    return _with_model(config, init, given)


def _given(overrides: Sequence[str]) -> set[str]:
    return {override.partition("=")[0].removeprefix(config_lib.FLAG) for override in overrides}


def _changed(config: ConfigDict) -> set[str]:
    """The settings of the model and of windows that a config file changes."""
    default = config_lib.default()
    names = [f"model.{name}" for name in config.model] + [CONTEXT, VOCABULARY]
    find = config_lib.find
    return {name for name in names if find(config, name) != find(default, name)}


def _with_model(config: ConfigDict, init: Initial, given: set[str]) -> ConfigDict:
    changed = copy.deepcopy(config).unlock()
    ours, theirs = _effective(config.model), _effective(init.config)
    for name in sorted(theirs.keys() - FREE):
        if f"model.{name}" in given and ours[name] != theirs[name]:
            raise _contradiction(init, f"model.{name}", ours[name], theirs[name])
        changed.model[name] = getattr(init.config, name)
    _set_windows(changed, init, given)
    return changed.lock()


def _effective(model: Any) -> dict[str, Any]:
    """{name: value} of the architecture's settings, with what a 0 stands for put in.

    Args:
      model: `config.model`, or a transformer's config.
    """
    names = [field.name for field in dataclasses.fields(transformer.Config)]
    found = {name: getattr(model, name) for name in names if name not in ("vocab_size", "context")}
    found["num_kv_heads"] = found["num_kv_heads"] or found["num_heads"]
    found["head_size"] = found["head_size"] or found["d_model"] // found["num_heads"]
    return found


def _set_windows(config: ConfigDict, init: Initial, given: set[str]) -> None:
    if CONTEXT not in given:
        config.data.context = init.config.context
    if config.data.context > init.longest:
        what = f"windows of at most {init.longest} tokens"
        raise _contradiction(init, CONTEXT, config.data.context, what)
    ours, named = init.record["vocabulary_sha256"], config.data.vocabulary
    if VOCABULARY in given and vocabularies.read(named).sha256 != ours:
        raise _contradiction(init, VOCABULARY, named, f"a vocabulary of its own ({ours[:12]})")
    config.data.vocabulary = str(init.path)
    config.data.vocabulary_size = init.config.vocab_size


def _contradiction(init: Initial, setting: str, ours: Any, theirs: Any) -> UserError:
    return UserError(
        f"{setting}={ours!r} contradicts --init={init.path}, which has {theirs!r}: a model that is "
        "gone on from keeps its sizes and its vocabulary. Leave the setting out, or the --config "
        "that has it (specialm init makes a model of other sizes)."
    )
