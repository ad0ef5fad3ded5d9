"""Where a model comes from, as its `model.json` says: a run folder is enough to go on from.

settings   the config that pretrained it
generic    where the windows of the generic text lie, seen from the run folder, and their
           fingerprints: {"train": {"path", "fingerprint"}, "heldout": ...}
imported   of a checkpoint that others trained: where it came from (`model_record.IMPORTED`)
"""

import os
from pathlib import Path

from ml_collections import ConfigDict

from specialm.common import processes
from specialm.data.store import WindowStore
from specialm.training import runs


def describe(
    path: Path, config: ConfigDict, generic: dict[str, WindowStore], start: dict | None = None
) -> dict:
    """The origin of the model that is pretrained in the run folder `path`.

    Args:
      generic: {"train": store, "heldout": store}.
      start: the record of the model that it goes on from, if there is one.
    """
    return {
        **imported(start or {}),
        "settings": config.to_dict(),
        "generic": _places(generic, path),
    }


def inherited(base: Path, path: Path, generic: dict[str, WindowStore] | None = None) -> dict:
    """The origin of a model derived from `base` in the run folder `path`.

    Args:
      generic: {split: store} of generic windows that it was derived with, for those that `base`
        knows of none of, or of those that are gone.
    """
    record = runs.read_record(base)
    if "settings" not in record:
        return imported(record)
    of_base = {
        split: {**place, "path": _relative(Path(base) / place["path"], path)}
        for split, place in record.get("generic", {}).items()
        if not generic or (Path(base) / place["path"]).exists()
    }
    return {
        **imported(record),
        "settings": record["settings"],
        "generic": {**_places(generic or {}, path), **of_base},
    }


def _places(generic: dict[str, WindowStore], path: Path) -> dict:
    """Where window stores lie, seen from a run folder, and their fingerprints."""
    return {
        split: {"path": _relative(store.path, path), "fingerprint": store.fingerprint}
        for split, store in generic.items()
    }


def imported(record: dict) -> dict:
    """What a record says of the checkpoint that others trained, if the model came from one."""
    return {"imported": record["imported"]} if "imported" in record else {}


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(os.path.realpath(path), os.path.realpath(start))


def generic_store(
    base: Path, split: str, vocabulary_sha256: str, trusted: bool = True
) -> WindowStore | None:
    """The generic windows that `base` was trained on (or that were held out), if they still lie
    where they did and are the same.

    Args:
      trusted: whether they may lie anywhere; else only in the work folder that `base` is in.
    """
    place = runs.read_record(base).get("generic", {}).get(split)
    if place and not trusted and not _in_work_folder(base, place["path"]):
        return None
    there = place is not None and processes.run_on_first(
        "finding the generic windows", lambda: (Path(base) / place["path"] / "index.json").exists()
    )
    if not there:
        return None
    store = WindowStore(Path(base) / place["path"])
    same = (
        store.fingerprint == place["fingerprint"]
        and store.index["vocabulary_sha256"] == vocabulary_sha256
    )
    return store if same else None


def _in_work_folder(base: Path, path: str) -> bool:
    """Whether a path, seen from WORK/pretrained/NAME, is a folder of WORK/windows."""
    base = Path(base).resolve()
    return (base / path).resolve().parent == base.parent.parent / "windows"
