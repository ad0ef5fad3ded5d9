"""Checkpoints in the Hugging Face layout: config.json, safetensors in one file or several,
tokenizer.json.
"""

import hashlib
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.vocabularies.tokenizer_json import CONFIG_FILE, FILE, TokenizerJson
from specialm.serving import architectures
from specialm.serving.architectures.record import Json
from specialm.serving.foreign import Foreign

CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
LICENCE = re.compile(r"^license:\s*(\S+)", re.MULTILINE)  # in a model card


def read_json(path: Path) -> Json:
    """A JSON object.

    Raises:
      UserError: it is not there or is none.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; --hf takes the folder of a whole model.")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}); download it again.") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: must be a JSON object; download it again.")
    return found


def open_folder(folder: Path, scratch: Path, stack: ExitStack) -> Foreign:
    """The checkpoint in a folder.

    Args:
      scratch: an empty folder, for the files of the tokenizer.
      stack: keeps its files open.

    Raises:
      UserError: with the file, for what is missing, damaged or not supported.
    """
    if not folder.is_dir():
        raise UserError(f"--hf={folder}: no such folder.")
    config = read_json(folder / CONFIG)
    architecture = architectures.get(config.get("model_type"), str(folder / CONFIG))
    files = _weights(folder)
    places: dict[str, tuple[str, Any]] = {}
    for path in files:
        opened = _open(path, stack)
        places |= {_full(name, architecture.prefix): (name, opened) for name in opened.keys()}
    shapes = {name: tuple(at.get_slice(own).get_shape()) for name, (own, at) in places.items()}

    def tensor(name: str) -> np.ndarray:
        own, at = places[name]
        return np.asarray(at.get_tensor(own))

    return Foreign(
        str(folder),
        architecture,
        config,
        shapes,
        tensor,
        _vocabulary(folder, scratch),
        {
            "format": "hf",
            "source": str(folder.resolve()),
            "name": config.get("_name_or_path") or folder.resolve().name,
            "licence": _licence(folder),
            "sha256": _hash(files),
        },
    )


def _full(name: str, prefix: str) -> str:
    """A name as `save_pretrained` writes it; some files leave the prefix out."""
    bare = not prefix or name.startswith((prefix, "lm_head."))
    return name if bare else prefix + name


def _weights(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        names = read_json(folder / INDEX).get("weight_map")
        if not isinstance(names, dict) or not all(_plain(name) for name in names.values()):
            raise UserError(f"{folder / INDEX}: has no weight_map of file names.")
        files = [folder / name for name in sorted(set(names.values()))]
    elif (folder / WEIGHTS).is_file():
        files = [folder / WEIGHTS]
    else:
        pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
        hint = (
            f"; {pickles[0]} is a pickle, which may execute anything, and is not read: convert it "
            "to safetensors (save_pretrained of transformers writes them)"
            if pickles
            else ""
        )
        raise UserError(f"{folder}: no {WEIGHTS} or {INDEX} there{hint}.")
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise UserError(f"{folder}: {', '.join(missing)} of {INDEX} is not there; download it.")
    return files


def _plain(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def _open(path: Path, stack: ExitStack) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return stack.enter_context(safe_open(path, framework="flax"))  # NumPy has no bfloat16
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: is damaged or cut short ({error}); download it again.") from error


def _vocabulary(folder: Path, scratch: Path) -> TokenizerJson:
    """The tokenizer, with all that other files of the folder say of it in its own two."""
    if not (folder / FILE).is_file():
        raise UserError(
            f"{folder}: no {FILE} there. AutoTokenizer.from_pretrained(...).save_pretrained(...) "
            "of transformers writes one for a model that has only a tokenizer.model."
        )
    (scratch / FILE).write_bytes((folder / FILE).read_bytes())
    config = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).exists() else {}
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text("utf-8")
    write_json(scratch / CONFIG_FILE, config)
    return TokenizerJson(scratch / FILE)


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    found = LICENCE.search(card.read_text("utf-8", errors="replace")) if card.is_file() else None
    return found[1] if found else "not stated"


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
