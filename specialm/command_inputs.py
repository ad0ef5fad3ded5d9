"""What the commands of `specialm` work on, from their words: config, work folder, models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from specialm import config as config_lib
from specialm import config_files
from specialm.common import processes, runtime
from specialm.common.errors import UserError
from specialm.planning import precheck


def load(
    config_path: str,
    overrides: list[str],
    options: dict,
    check: Callable[[ConfigDict], Any] = lambda config: None,
) -> tuple[ConfigDict, Path]:
    """(config, workdir); all that can be checked is checked before JAX is imported.

    Args:
      check: raises UserError for what this command cannot work with.
    """
    if not config_path:
        raise UserError("--config is missing; for example --config=configs/local/slm.py.")
    config = config_lib.load(config_path, overrides)
    check(config)
    runtime.join_processes()
    return config, workdir_of(config_path, options, "")


def load_from(
    config_path: str, overrides: list[str], options: dict, check: Callable[[ConfigDict], Any]
):
    """(config, workdir, the model of --init or None); with one the config is its own if none is
    given.
    """
    if not options["init"]:
        return *load(config_path, overrides, options, check), None
    runtime.join_processes()
    from specialm.workflows import continuing, initial, stage_keys

    base = other_model("init", options["init"], options["trust"])
    assert base is not None
    init = initial.read(base, stage_keys.checkpoint_key(base))
    config = continuing.load_config(init, config_path, overrides, options["trust"])
    check(config)
    return config, workdir_of(config_path, options, "continued"), init


def join_alone(name: str) -> None:
    """Raises UserError for a job of several processes; `name` works in one."""
    runtime.join_processes()
    if processes.count() > 1:
        raise UserError(f"{name} works in one process; unset SPECIALM_DISTRIBUTED.")


def need_checkpoint(options: dict, what: str = "the folder of a trained model.") -> None:
    """Raises UserError if --checkpoint was left out; `what` says what it has to be."""
    if not options["checkpoint"]:
        raise UserError(f"--checkpoint is missing: {what}")


def workdir_of(config_path: str, options: dict, default: str) -> Path:
    """--workdir, or a folder named after the config file, or `default` without one."""
    name = Path(config_files.split(config_path)[0]).stem if config_path else default
    return Path(options["workdir"] or f"runs/{name}")


def open_run(config_path: str, overrides: list[str], options: dict, every_domain: bool):
    """(run, run folder of --checkpoint or None). Without --config the checkpoint's own settings
    hold, and the generic text is not needed.

    Args:
      every_domain: work on all of the config's domains unless one is named; else on exactly one.
    """
    if options["generic"] and (config_path or not options["checkpoint"]):
        raise UserError(
            f"--generic={options['generic']}: with a config it is --config.data.generic; the "
            "option is for a --checkpoint alone."
        )
    if config_path or not options["checkpoint"]:
        config, workdir = load(config_path, overrides, options, precheck.check_batches)
    runtime.join_processes()
    from specialm.workflows import from_checkpoint, listing, own_text, pipeline

    def domains_of(config: ConfigDict) -> list[str]:
        return pipeline.domains_of(config) if every_domain else [precheck.one_domain(config)]

    base = listing.resolve(options["checkpoint"]) if options["checkpoint"] else None
    if base is not None and not config_path:
        name = options.get("name", "")
        config = from_checkpoint.load(
            base, overrides, options["source"], options["trust"], name=name
        )
        precheck.check_batches(config)
        domains = domains_of(config)
        workdir = Path(options["workdir"] or f"runs/{config.domain or 'specialm'}")
        run = from_checkpoint.open_run(
            config, workdir, domains, base, options["trust"], options["generic"]
        )
        return own_text.paced(run, options["source"], own_text.given(overrides)), base
    kept = own_text.given(overrides, config)
    if options["source"]:
        config = own_text.with_source(config, options["source"], kept, options.get("name", ""))
    domains = domains_of(config)
    used = () if base else (config.method,)
    run = pipeline.open_run(config, workdir, domains, used=used)
    return own_text.paced(run, options["source"], kept), base


def of_specialize(config_path: str, overrides: list[str], options: dict) -> tuple[dict, list[str]]:
    """(options, overrides) of `specialize`, a bundle as the checkpoint that it is.

    Raises:
      UserError: options that exclude each other, or a bundle that is damaged.
    """
    given = [f"--{name}={options[name]}" for name in ("bundle", "checkpoint") if options[name]]
    if options["bundle"] and (config_path or options["checkpoint"]):
        others = config_path and f"--config={config_path}"
        raise UserError(f"{given[0]}: it has its settings; leave out {others or given[1]}.")
    if options["sources"]:
        alone = [name for name in ("source", "generic", "teacher") if options[name]]
        if config_path or alone or not given:
            wrong = f"leave out --{alone[0] if alone else 'config'}"
            wrong = "give a --bundle or a --checkpoint" if not given else wrong
            raise UserError(f"--sources={options['sources']}: {wrong}.")
    else:
        for name in ("plain", "jobs"):
            if options[name]:
                raise UserError(f"--{name}={options[name]}: is for --sources.")
    if options["name"]:
        from specialm.data import sources

        if not options["source"]:
            raise UserError(f"--name={options['name']}: is for --source.")
        sources.check_name(options["name"])
    if options["no_finetune"] and options["plain"]:
        raise UserError(f"--plain={options['plain']}: is fine-tuned; leave out --no_finetune.")
    if options["no_finetune"]:
        if any(each.startswith("--config.finetune.max_steps=") for each in overrides):
            raise UserError("--no_finetune: leave out --config.finetune.max_steps.")
        overrides = [*overrides, "--config.finetune.max_steps=0"]
    if options["bundle"]:
        from specialm.workflows import bundles

        options = {**options, "checkpoint": str(bundles.find(options["bundle"], options["trust"]))}
    return options, overrides


def other_model(option: str, given: str, trusted: bool) -> Path | None:
    """The run folder that an option names; None if it was left out."""
    from specialm.training import runs
    from specialm.workflows import listing, trust

    if not given:
        return None
    found = listing.resolve(given, option)
    runs.check_there(found, option)
    if not trusted:
        trust.check_links(found)
    return found


def teacher(given: str, trusted: bool):
    """The model to distil from, or None."""
    from specialm.workflows import finetuning, stage_keys

    found = other_model("teacher", given, trusted)
    return finetuning.Teacher(found, stage_keys.checkpoint_key(found)) if found else None


def number(option: str, text: str) -> float:
    """The number that an option was given.

    Raises:
      UserError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--{option}={text}: must be a number.") from None
