"""Commands that train nothing: what a config has, costs and would reach."""

import os

from specialm import command_inputs as inputs
from specialm.common.errors import UserError
from specialm.planning import precheck


def settings(config_path: str, overrides: list[str], options: dict):
    """The table of settings."""
    from specialm.settings import listing

    return listing.rows(options["name"]), (
        listing.markdown() if options["markdown"] else listing.text(options["name"])
    )


def check(config_path: str, overrides: list[str], options: dict):
    """Whether a config can be run, without JAX."""
    command, devices, chip = options["command"], options["devices"], ""
    if command not in ("train", "specialize"):
        raise UserError(f"--command={command}: must be train or specialize.")
    for name, least in (("devices", 0), ("slices", 1)):
        if options[name] < least:
            raise UserError(f"--{name}={options[name]}: must be at least {least}.")
    if options["topology"]:
        devices, chip = precheck.devices_of(options["topology"], options["slices"])
    config, _ = inputs.load(
        config_path,
        overrides,
        options,
        lambda config: precheck.check_command(config, command, devices, chip),
    )
    result = {"config": config_path, "method": config.method, "command": command}
    where = f"{devices} devices" if devices else "this machine"
    return result | {"devices": devices}, f"{config_path}: {command} can run on {where}."


def inspect(config_path: str, overrides: list[str], options: dict):
    """Parameters, FLOPs and memory of a config."""
    config, _, init = inputs.load_from(config_path, overrides, options, lambda config: None)
    from specialm.planning.inspection import inspect_config

    result = inspect_config(config, init.dense(config) if init else None)
    return result, "\n".join(
        f"{name:28} {value:,}" if isinstance(value, int) else f"{name:28} {value}"
        for name, value in result.items()
    )


def compile_for(config_path: str, overrides: list[str], options: dict):
    """The training step on a TPU slice: cost, memory and time of a step."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # libtpu compiles, but there are no chips
    config, _ = inputs.load(config_path, overrides, options)
    from specialm.planning import compilation

    result = compilation.compile_report(
        config, options["topology"], options["windows_per_device"], options["largest"]
    )
    return result, compilation.table(result)


def plan(config_path: str, overrides: list[str], options: dict):
    """Which method to train, forecast."""
    inputs.join_alone("plan")
    from specialm.planning import plans

    return plans.make(options)


def score_plan(config_path: str, overrides: list[str], options: dict):
    """What came of a registered forecast."""
    inputs.join_alone("score_plan")
    from specialm.planning import plans

    return plans.score(options)
