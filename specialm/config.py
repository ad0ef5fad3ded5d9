"""How a config comes about: the defaults, a config file, overrides, and the check of all of it.

A config file is a Python file with `get_config()`, usually a few changes to `default()`:

    from specialm.config import default

    def get_config():
        config = default()
        config.model.d_model = 256
        return config

Every setting is a row of the table in specialm/settings/. A config is read and checked without
JAX, so that what is wrong is said at once.
"""

import copy
import math
import runpy
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FieldReference

from specialm import config_files, methods
from specialm.clustering import histograms, levels
from specialm.common.errors import UserError
from specialm.common.setting import MOST, Setting
from specialm.data import feeds, sources
from specialm.models import quantization, ranks
from specialm.settings import SECTIONS, SETTINGS, suggestion

FLAG = "--config."


def default() -> ConfigDict:
    """Every setting of the project with its default value, unlocked."""
    config = ConfigDict()
    complete(config)
    return config


def complete(config: ConfigDict) -> None:
    """Gives an unlocked config the defaults of the settings that it lacks."""
    for name, setting in SETTINGS.items():
        *sections, field = name.split(".")
        part = config
        for section in sections:
            if section not in part:
                part[section] = ConfigDict()
            part = part[section]
        if field not in part:
            part[field] = _initial(setting)


def _initial(setting: Setting) -> Any:
    if setting.words:  # a word may become a number, which a ConfigDict else refuses
        return FieldReference(setting.default, field_type=object)
    value = copy.deepcopy(setting.default)
    return ConfigDict(value) if setting.value_type is dict else value


def override(config: ConfigDict, change: str, flag: str = "") -> None:
    """Sets "FIELD=VALUE" in an unlocked config.

    Args:
      flag: what the user wrote before it, for errors.

    Raises:
      UserError: no such field (the nearest is named), or a value of another type.
    """
    name, given, text = change.partition("=")
    parent, _, entry = name.rpartition(".")
    setting = SETTINGS.get(name)
    if given and setting is None and parent in SETTINGS and SETTINGS[parent].value_type is dict:
        setting = _entry(SETTINGS[parent], name)
    if not given or setting is None:
        raise UserError(f"{flag}{change}: {_unknown(name)}")
    try:
        value = setting.parse(text)
    except (ValueError, KeyError) as error:
        raise UserError(f"{flag}{change}: must be {setting.range()}.") from error
    part = find(config, parent)
    with part.ignore_type():  # `check` is stricter, and knows of words beside numbers
        part[entry] = value


def _entry(mapping: Setting, name: str) -> Setting:
    """The setting of one value of a mapping."""
    return Setting(name, mapping.of(), mapping.help)


def _unknown(name: str) -> str:
    if name in SECTIONS:
        return f"{name} is a section; set one of its settings (specialm settings --name={name})."
    if name in SETTINGS:
        return f"a value is missing: {name}=VALUE."
    return f"there is no setting {name}.{suggestion(name)}"


def find(config: ConfigDict, name: str) -> Any:
    """The value of a dotted name; the config itself for ""."""
    for part in filter(None, name.split(".")):
        config = config[part]
    return config


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config file, applies `--config.a.b=value` overrides, checks it, locks it.

    Raises:
      UserError: the file is missing, fails or has no `get_config`; an override names an unknown
        field (the nearest name is given) or has a value of the wrong type; a setting is out of
        range.
    """
    config = _read(path)
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={path}: get_config() must return a ConfigDict.")
    return finish(config, overrides)


def finish(config: ConfigDict, overrides: Sequence[str] = ()) -> ConfigDict:
    """A config with overrides and with the defaults of what it lacks, checked and locked.

    Raises:
      UserError: see `load`.
    """
    config.unlock()
    changes = [text.removeprefix(FLAG) for text in overrides]
    first = [change for change in changes if change.startswith("method_modules=")]
    for change in first:
        override(config, change, FLAG)
    # They may have settings of their own.
    methods.import_modules(_checked(config, SETTINGS["method_modules"]))
    complete(config)
    for change in changes:
        override(config, change, FLAG)
    check(config)
    return config.lock()


def _read(path: str) -> Any:
    file, argument = config_files.split(config_files.find(path))
    try:
        get_config = runpy.run_path(file).get("get_config")
        if get_config is not None:
            return get_config(argument) if argument else get_config()
    except UserError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise UserError(f"--config={path}: {_explain(file, error)}") from error
    raise UserError(f"--config={path}: has no function get_config.")


def _explain(file: str, error: Exception) -> str:
    """The line of the file and what went wrong there."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == Path(file)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    text = " ".join(str(error.args[0] if error.args else error).split())
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {text}"


def check(config: ConfigDict) -> None:
    """Imports the modules that register methods; raises UserError for a value that no command
    could work with. JAX is not imported.
    """
    methods.import_modules(_checked(config, SETTINGS["method_modules"]))
    for name in _names(config):
        if name not in SETTINGS:
            raise UserError(f"config.{name}: {_unknown(name)}")
    # Choices are looked up in other settings, which are checked before.
    for setting in sorted(SETTINGS.values(), key=lambda setting: callable(setting.choices)):
        _checked(config, setting)
        setting.check_division(lambda name: find(config, name))
    _check_domains(config)
    levels.check(config.clustering.branching, config.clustering.level)
    if config.clustering.method == "tree":
        for level in config.clustering.candidates:
            levels.check(config.clustering.branching, level, "clustering.candidates")
    histograms.check_targets(config.clustering.targets, list(config.data.domains))
    methods.dense_config(config, config.data.vocabulary_size)
    _check_steps(config)
    _check_bits(config)
    feeds.check(config.train.feed)
    if config.finetune.lora_targets:
        ranks.read(config.finetune.lora_targets, config.finetune.lora_rank)
    tune = config.finetune
    if tune.replay_draws != "uniform" and not tune.replay_fraction:
        raise UserError(
            f"finetune.replay_draws={tune.replay_draws!r}: no generic text is replayed; set "
            "finetune.replay_fraction, such as 0.5."
        )
    if config.train.specialist_fraction and not methods.get(config.method).is_dense:
        raise UserError(
            f"train.specialist_fraction={config.train.specialist_fraction}: only dense "
            f"models can have specialist text mixed in, not method={config.method!r}."
        )


def _checked(config: ConfigDict, setting: Setting) -> Any:
    """The value of a setting, in its range."""
    try:
        value = find(config, setting.name)
    except KeyError as error:
        raise UserError(
            f"config.{setting.name} is missing; start from specialm.config.default()."
        ) from error
    setting.check(value, config)
    return value


def _names(config: ConfigDict, section: str = "") -> Iterator[str]:
    """The dotted names of all that a config holds."""
    for field, value in config.items():
        name = f"{section}.{field}" if section else field
        if isinstance(value, ConfigDict) and name in SECTIONS:
            yield from _names(value, name)
        else:
            yield name


def _check_domains(config: ConfigDict) -> None:
    for name in config.data.domains:
        sources.check_name(name)
    named = {"data.generic": config.data.generic}
    named |= {f"data.domains.{name}": spec for name, spec in config.data.domains.items()}
    for setting, spec in named.items():
        if not spec.startswith(sources.WITHHELD):
            sources.check_scheme(setting, spec)


def _check_steps(config: ConfigDict) -> None:
    """Steps are counted in 32 bits."""
    train = config.train
    steps = math.ceil(train.tokens / (train.batch_size * config.data.context))
    if steps > MOST:
        raise UserError(
            f"train.tokens={train.tokens:,}: in steps of train.batch_size={train.batch_size} "
            f"windows of data.context={config.data.context} tokens it takes {steps:,} steps; "
            f"it must be at most {MOST:,}."
        )


def _check_bits(config: ConfigDict) -> None:
    """Weights that are trained for few bits (`training/quantized.py`)."""
    for name in ("train.quantize_bits", "finetune.quantize_bits"):
        bits = find(config, name)
        if not bits:
            continue
        quantization.check_bits(name, bits, others="0, ")
        if config.train.param_dtype != "float32":
            raise UserError(
                f"{name}={bits}: what is rounded to few bits is trained in float32, not in "
                f"train.param_dtype={config.train.param_dtype!r}; set one of them to its default."
            )
    if config.finetune.quantize_bits and config.finetune.lora_rank:
        raise UserError(
            f"finetune.quantize_bits={config.finetune.quantize_bits}: adapters "
            f"(finetune.lora_rank={config.finetune.lora_rank}) leave the model's own weights as "
            "they are; set one of the two to 0."
        )
