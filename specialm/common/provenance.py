"""Provenance of results (command, versions, machine, settings); setting earlier ones aside."""

import contextlib
import datetime
import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

VERSIONS = (
    "specialm",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "sentencepiece",
    "scikit-learn",
    "seqio",
    "tensorflow",
)  # those of extras where they are installed


def describe(config: ConfigDict) -> dict:
    """Return title, created, command, versions, machine, settings."""
    return {
        "title": config.title,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": " ".join(["specialm", *sys.argv[1:]]),
        "versions": _versions(),
        "machine": _machine(),
        "settings": flat(config),
    }


def set_aside(folder: Path, record: str, settings: dict, others: tuple[str, ...]) -> None:
    """Rename the results of a run with other settings: `results.jsonl` -> `results.1.jsonl`.

    Args:
      folder: of the results.
      record: name of a JSON file that holds the settings under "settings".
      settings: those of the run that will write here.
      others: names of more files and folders that belong to the record.

    """
    path = folder / record
    if not path.exists():
        return
    before = json.loads(path.read_text())
    if before["settings"] == json.loads(json.dumps(settings)):
        return
    stem, _, ending = record.rpartition(".")
    number = 1 + sum(1 for _ in folder.glob(f"{stem}.*.{ending}"))
    for name in (record, *others):
        if (folder / name).exists():
            stem, dot, ending = name.partition(".")
            shutil.move(folder / name, folder / f"{stem}.{number}{dot}{ending}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _machine() -> dict:
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "platform": platform.platform(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def flat(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Return the settings of a config, {"data.context": 128, ...}, for records and reports."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            settings.update(flat(value, f"{prefix}{key}."))
        else:
            settings[prefix + key] = list(value) if isinstance(value, tuple) else value
    return settings
