"""What a run folder that somebody else wrote may make us do: nothing but to read it.

Of the settings in its `model.json` those that name modules, which would be executed, or places
outside of the folder, which would be opened, hold only if the user trusts it (`--trust`) or names
them anew. The default corpora are the user's own, so a domain `corpora:NAME` is no such place.
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from specialm import methods
from specialm.common.errors import UserError
from specialm.common.names import is_name

MODULES = ("method_modules", "data.seqio_modules")
PLACES = ("data.corpora_root", "data.vocabulary", "clustering.encoder_path")
WITHHELD = "not opened: "  # in front of a source that only `model.json` names


def without_others(config: ConfigDict, default: ConfigDict) -> ConfigDict:
    """The settings of a run folder without what needs trust: defaults, and sources `WITHHELD`.

    Args:
      config: as the folder has it; it is changed.
      default: of every setting.
    """
    for name in (*MODULES, *PLACES):
        section, _, field = name.rpartition(".")
        part, of = (config[section], default[section]) if section else (config, default)
        part[field] = of[field]
    config.data.generic = _withheld(config.data.generic)
    for domain, spec in config.data.domains.items():
        config.data.domains[domain] = _withheld(spec)
    return config


def _withheld(spec: str) -> str:
    scheme, _, name = spec.partition(":")
    return spec if scheme == "corpora" and is_name(name) else WITHHELD + spec


def check_methods(config: ConfigDict, saved: dict, base: Path) -> None:
    """Raises UserError for a method that only the modules that are not imported would register."""
    modules = saved.get("method_modules") or ()
    unknown = [name for name in (config.method, *config.methods) if methods.find(name) is None]
    if unknown and modules and not config.method_modules:
        given = f'--config.method_modules="{tuple(modules)!r}"'
        raise UserError(
            f"--checkpoint={base}: the method {unknown[0]!r} is registered by the modules "
            f"{', '.join(map(str, modules))}, which its model.json names. They are not imported, "
            f"as that executes them; if you trust them, add --trust or {given}."
        )


def check_domains(config: ConfigDict, domains: list[str], base: Path) -> None:
    """Raises UserError for a domain whose text only `model.json` names."""
    for domain in domains:
        spec = config.data.domains[domain]
        if spec.startswith(WITHHELD):
            raise UserError(
                f"--checkpoint={base}: its model.json names {spec.removeprefix(WITHHELD)} as the "
                f"text of {domain!r}. What a run folder names outside of itself is not opened; if "
                "you trust it add --trust, or give your text with --source or "
                f"--config.data.domains.{domain}."
            )


def check_links(base: Path) -> None:
    """Raises UserError for a link in a run folder that leads out of it."""
    root = Path(base).resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            if path.is_symlink() and not _leads_inside(path, root):
                raise UserError(
                    f"--checkpoint={base}: {path.relative_to(root)} is a link that leads out of "
                    "the run folder, to where nothing is opened; put the file itself there, or add "
                    "--trust."
                )


def _leads_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return False
