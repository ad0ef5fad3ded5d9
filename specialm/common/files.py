"""Atomic writes: a file is either the old one or the complete new one, never a part."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON."""
    write_text(path, json.dumps(value, indent=1))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as stream:
        np.save(stream, array)
    os.replace(temporary, path)
