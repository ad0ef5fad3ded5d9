"""Atomic writes: a file is either the old one or the complete new one, never a part.

Its content is on the disk before it has its name; who needs the name there as well flushes the
folder (`Stages` does).

JSON goes through `to_json`, which knows no NaN. A *sealed* JSON file holds a digest of itself, so
that a changed character is noticed.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import xxhash

from specialm.common import disk
from specialm.common.errors import UserError

SEAL = "digest"


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes."""
    write_with(path, lambda stream: stream.write(content))


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; raises as `to_json`."""
    write_text(path, to_json(value, 1))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy."""
    write_with(path, lambda stream: np.save(stream, array))


def write_with(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file that takes the place of `path` when it is on the disk.

    Raises:
      UserError: the disk is full; the old file is still there.

    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with disk.writing(path), temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there: killed on the way, nothing half of it has its name.

    What is left then has a name that ends with `.tmp`; `Stages` removes that.
    """
    leaving = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(leaving, ignore_errors=True)
    if path.exists():
        os.rename(path, leaving)
        shutil.rmtree(leaving)


def check_new_folder(option: str, target: str) -> None:
    """Raise UserError for a folder to write that is missing, or that holds something already."""
    if not target:
        raise UserError(f"--{option} is missing: the folder that is written.")
    path = Path(target)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(
            f"--{option}={target}: is there already; nothing is overwritten, name another."
        )


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON.

    Raises:
      ValueError: a number that is not finite, with its place in the value.

    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        places = ", ".join(_not_finite(value, ""))
        raise ValueError(f"not finite, so it cannot be JSON: {places or error}") from error


def _not_finite(value: Any, place: str) -> list[str]:
    if isinstance(value, dict):
        return [p for key, v in value.items() for p in _not_finite(v, f"{place}.{key}")]
    if isinstance(value, list | tuple):
        return [p for i, v in enumerate(value) for p in _not_finite(v, f"{place}[{i}]")]
    bad = isinstance(value, float) and not np.isfinite(value)
    return [f"{place.removeprefix('.')} = {value}"] if bad else []


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      UserError: it is missing or damaged.

    """
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: is damaged (not JSON: {error}); restore it from a copy, or remove the folder "
            "that it lies in: the same command computes it again."
        ) from error


def write_sealed(path: Path, value: dict) -> None:
    """Write a dictionary as JSON with a digest of itself under `SEAL`."""
    write_json(path, {**value, SEAL: _seal(value)})


def read_sealed(path: Path) -> dict:
    """Read a sealed file, or one of an earlier version, which has no seal.

    Raises:
      UserError: it is missing, damaged or was changed.

    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: is damaged: not a JSON object but {type(value).__name__}.")
    if SEAL in value and value.pop(SEAL) != _seal(value):
        raise UserError(
            f"{path}: is damaged: its content is not what was written (its digest differs); "
            "restore it from a copy, or remove the folder that it lies in: the same command "
            "computes it again."
        )
    return value


def _seal(value: dict) -> str:
    plain = json.loads(to_json(value))  # keys as they will be read
    return xxhash.xxh3_128_hexdigest(json.dumps(plain, sort_keys=True).encode())
