"""Manifests: the size and digest of every file of a finished folder, checked when it is opened.

A stage has one when it is finished, and so has each step of a checkpoint; the first names the
second's manifest instead of its files. Digests are XXH3 (128 bits): they notice damage, at the
speed of the memory, but no forgery. Each file is read once in a process, when it is first opened.

    FOLDER/verified.json   the manifest, sealed: {"files": {path below the folder: [bytes, digest]}}
    FOLDER/stage.json      sealed: "verified" says that there is one
"""

import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.files import flush, read_sealed, write_sealed

NAME, STAGE = "verified.json", "stage.json"
CHUNK = 1 << 20  # bytes read at a time
THREADS = 8
LEVELS = 6  # folders that a file lies below its manifest, at most
OF_THE_STAGE = (STAGE, "stage.lock", "stage.owner.json")  # not of its result
UNFINISHED = (".tmp", ".partial")

_read: dict[str, tuple[tuple, dict]] = {}  # path of a manifest -> what its file was like, and it
_checked: dict[str, tuple] = {}  # path -> what the file was like when its digest was right
_unverified: set[Path] = set()  # folders that were reported to be


def digest(path: Path) -> str:
    """Return the XXH3 of a file's content, 32 hexadecimal digits."""
    hasher, buffer = xxhash.xxh3_128(), memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.hexdigest()


def write(
    folder: Path, facts: dict | None = None, but: tuple[str, ...] = (), every: bool = False
) -> None:
    """Flush all files below `folder` to the disk, and write its manifest.

    Args:
      folder: it is finished.
      facts: what else the manifest says.
      but: names of files in it that are left out.
      every: also list the files below folders that have a manifest of their own.

    """
    paths = [p for p in _files(folder, every) if p.parent != folder or p.name not in but]
    with ThreadPoolExecutor(THREADS) as threads:  # a disk flushes many files in the time of one
        found = list(threads.map(_flushed, paths))
        list(threads.map(flush, [Path(parent) for parent, _, _ in os.walk(folder)]))
    names = [path.relative_to(folder).as_posix() for path in paths]
    files = dict(zip(names, found, strict=True))
    write_sealed(folder / NAME, {"files": files, **(facts or {})})


def _flushed(path: Path) -> list:
    flush(path)
    return [path.stat().st_size, digest(path)]


def read(folder: Path) -> dict | None:
    """Return the manifest of a folder: {path: [bytes, digest]} under "files", and its facts.

    Returns:
      None for a folder that has none.

    Raises:
      UserError: the manifest is damaged, or missing though the stage says that it has one.

    """
    path, now = folder / NAME, _like(folder / NAME)
    if now:
        known = _read.get(str(path))
        if known and known[0] == now:
            return known[1]
        manifest = read_sealed(path)
        if not isinstance(manifest.get("files"), dict):
            raise _damaged(path, "it lists no files", folder)
        if wrong := [name for name, facts in manifest["files"].items() if not _is_of(name, facts)]:
            raise _damaged(path, f"{wrong[0]!r} is no file of this folder", folder)
        _read[str(path)] = (now, manifest)
        return manifest
    stage = read_sealed(folder / STAGE) if (folder / STAGE).exists() else {}
    if stage.get("verified"):
        raise _damaged(path, "it is missing", folder)
    return None


def _is_of(name: str, facts: Any) -> bool:
    """Whether these can be a file below the folder of a manifest, and its size and digest."""
    types = [type(fact) for fact in facts] if isinstance(facts, list) else []
    return types == [int, str] and not Path(name).is_absolute() and ".." not in Path(name).parts


def check(path: Path) -> None:
    """Compare a file, or all files below a folder, with the manifest that they are in.

    What lies in a folder without one passes: a stage at work, or one of an earlier version, which
    is reported once.

    Raises:
      UserError: one is missing or differs.

    """
    path = Path(os.path.abspath(path))
    folder = _finished_above(path)
    if folder is None:
        return
    manifest = read(folder)
    if manifest is None:
        _tell_unverified(folder)
        return
    name, files = path.relative_to(folder).as_posix(), manifest["files"]
    wanted = [name] if name in files else [f for f in files if f"{f}/".startswith(f"{name}/")]
    if path == folder:
        wanted = list(files)
    if not wanted and not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    for file in wanted:
        check_file(folder, file, *files[file])
        if Path(file).name == NAME:
            check((folder / file).parent)


def load_array(path: Path, mmap: bool = False) -> np.ndarray:
    """Read an .npy file, checked; a memory map of it if asked for.

    Raises:
      UserError: it is missing or damaged.

    """
    check(path)
    try:
        return np.load(path, mmap_mode="r" if mmap else None)
    except (OSError, ValueError, EOFError) as error:  # or its header promises more than there is
        raise _damaged(path, f"it cannot be read ({error})", path.parent) from error


@contextmanager
def arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Open an .npz file, checked.

    Raises:
      UserError: it is missing or damaged.

    """
    check(path)
    try:
        with np.load(path, allow_pickle=False) as saved:
            yield saved
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, f"it cannot be read ({error})", path.parent) from error


def check_file(folder: Path, name: str, size: int, expected: str) -> None:
    """Compare one file of a folder with its size and digest, once in this process.

    Raises:
      UserError: it is missing or differs.

    """
    path = folder / name
    now = _like(path)
    if _checked.get(str(path)) == (now, expected):
        return
    problem = _size_problem(path, size)
    if not problem and digest(path) != expected:
        problem = "its content is not what was written (its digest differs)"
    if problem:
        raise _damaged(path, problem, folder)
    _checked[str(path)] = (now, expected)


def check_sizes(folder: Path) -> None:
    """Compare the sizes alone of all files of a finished folder; nothing is read but the manifest.

    Raises:
      UserError: a file is missing or has another size.

    """
    manifest = read(folder)
    for name, (size, _) in (manifest["files"] if manifest else {}).items():
        problem = _size_problem(folder / name, size)
        if problem:
            raise _damaged(folder / name, problem, folder)


def _files(folder: Path, every: bool = False) -> Iterator[Path]:
    """Yield the files of a folder; of one below it that has a manifest, the manifest alone, unless
    `every` file is wanted.
    """
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            has_manifest = (path / NAME).exists()
            if has_manifest:
                yield path / NAME
            if every or not has_manifest:
                yield from _files(path, every)
        elif path.is_file() and path.name not in (NAME, *OF_THE_STAGE):
            if path.suffix not in UNFINISHED:
                yield path


def _finished_above(path: Path) -> Path | None:
    """Return the nearest folder, from `path` up, that has a manifest or is a finished stage."""
    for folder in (path, *path.parents)[: LEVELS + 1]:
        if (folder / NAME).exists() or (folder / STAGE).exists():
            return folder
    return None


def _tell_unverified(folder: Path) -> None:
    if folder not in _unverified:
        _unverified.add(folder)
        processes.tell(f"{folder}: an earlier version wrote it, so its files cannot be verified.")


def _like(path: Path) -> tuple | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _size_problem(path: Path, size: int) -> str:
    if not path.is_file():
        return "it is missing"
    found = path.stat().st_size
    return f"it has {found:,} bytes instead of {size:,}" if found != size else ""


def _damaged(path: Path, problem: str, folder: Path) -> UserError:
    return UserError(
        f"{path}: is damaged: {problem}. Restore it from a copy, or remove {folder}: the command "
        "that wrote it computes it again."
    )
