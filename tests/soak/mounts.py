"""Small disks, in a mount namespace of this process alone."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


@cache
def _apart() -> bool:
    """Whether this process has its own mounts now."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS):
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True).returncode == 0


def mounted(path: Path, size: int) -> bool:
    """Mount an empty disk of `size` bytes on a folder; return whether that was allowed."""
    if not _apart():
        return False
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


def grow(path: Path) -> None:
    """Give it 1 GB."""
    subprocess.run(["mount", "-o", "remount,size=1g", str(path)], check=True)


def unmount(path: Path) -> None:
    """Take it away again."""
    subprocess.run(["umount", "-l", str(path)], check=True)
