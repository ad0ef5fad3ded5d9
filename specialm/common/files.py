"""Atomic writes: a file is either the old one or the whole new one, never a part."""

import json
import os
from pathlib import Path

import numpy as np


def write_bytes(path: Path, content: bytes) -> None:
    """Writes these bytes."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value) -> None:
    """Writes a value as JSON."""
    write_text(path, json.dumps(value, indent=1))


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as .npy."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as stream:
        np.save(stream, array)
    os.replace(temporary, path)
