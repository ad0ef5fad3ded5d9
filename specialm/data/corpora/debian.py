"""Archives of Debian: `apt-get download` gets and authenticates them, `dpkg-deb` unpacks them.

Nothing is installed. Security updates replace a version in the archive: where the pinned one has
gone, the one that apt offers is taken.
"""

import dataclasses
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.corpora.catalogue import Package
from specialm.data.corpora.tar import matching

PROGRAMS = ("apt-get", "dpkg-deb")


def missing() -> str:
    """Return why Debian's programs cannot be used, or nothing."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return f"{' and '.join(absent)} not installed" if absent else ""


def download(package: Package, folder: Path) -> Package:
    """Download a package into `folder`, an empty one; return it as it was found.

    Raises:
      UserError: apt offers no version of it.
    """
    for requirement in (f"{package.name}={package.version}", package.name):
        command = ["apt-get", "download", "--quiet", requirement]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        found = list(folder.glob("*.deb"))
        if done.returncode == 0 and found:
            return _as_found(package, found[0])
    lines = [line for line in done.stderr.splitlines() if line.startswith("E:")][-1:]
    raise UserError(
        f"apt-get could not download {package.name} ({' '.join(lines) or 'no message'}); "
        "`apt-get update` may help"
    )


def _as_found(package: Package, path: Path) -> Package:
    fields = ["dpkg-deb", "--field", str(path), "Version"]
    version = subprocess.run(fields, capture_output=True, text=True, check=True).stdout.strip()
    return dataclasses.replace(package, version=version, archive=path.name)


@contextmanager
def opened(path: Path, members: str) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Yield (name, content) of the files whose whole names match, in the archive's order."""
    command = ["dpkg-deb", "--fsys-tarfile", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            yield matching(archive, members)
