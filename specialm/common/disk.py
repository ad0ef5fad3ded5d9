"""A full disk, said in a sentence: which path, how much was free, what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specialm.common.errors import UserError

NUMBERS = (errno.ENOSPC, errno.EDQUOT)
TEXTS = ("No space left on device", "Disk quota exceeded")  # as libraries pass them on


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, comes from a full disk."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number in NUMBERS or any(text in str(error) for text in TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def full(path: str | Path) -> UserError:
    """The error that says so."""
    path = Path(path).absolute()
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    return UserError(
        f"{path}: the disk is full ({free / 1e6:,.1f} MB free) or your quota is used up; make "
        "room. What was finished is kept: the same command goes on from there."
    )


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the error of a full disk into one that names `path`.

    Raises:
      UserError: the disk is full.

    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_full(error):
            raise full(path) from error
        raise


def reserve(path: Path) -> None:
    """Allocate all of a file that will be written through a memory map.

    A page of a memory map that finds no room kills the process without a word.

    Raises:
      UserError: there is no room.

    """
    with writing(path), path.open("ab") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                raise
