"""One process (or job) at a time in a folder.

The lock is the kernel's (`flock`, by the library filelock): it goes when its process does, however
that ends. NFS and Lustre pass it on to other hosts unless they are mounted not to; FUSE (a mounted
bucket) does not, and a message says so. `SPECIALM_LOCK=refuse` makes a second start an error, by
default it waits.

    FOLDER/stage.lock         the file that is locked
    FOLDER/stage.owner.json   who has it: for people
"""

import datetime
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.files import write_json

LOCK, OWNER = "stage.lock", "stage.owner.json"
VARIABLE = "SPECIALM_LOCK"
LOCAL = {"nolock", "local_lock=all", "local_lock=flock", "localflock"}  # options of a mount
POLL_SECONDS, TELL_SECONDS = 0.5, 600.0

_told: set[str] = set()  # mount points that do not lock


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Have a folder for oneself; wait for whoever has it.

    Raises:
      UserError: another has it and `SPECIALM_LOCK=refuse`.

    """
    lock = filelock.FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        _acquire(lock, folder)
    except NotImplementedError:
        _tell(folder, "has no locks")
        yield
        return
    _tell_if_local(folder)
    try:
        write_json(folder / OWNER, _me())
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _acquire(lock: filelock.BaseFileLock, folder: Path) -> None:
    last = 0.0
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except filelock.Timeout:
            pass
        if _setting() == "refuse":
            raise UserError(
                f"{_in_use(folder)}; wait until it has ended, set {VARIABLE}=wait, or choose "
                "another --workdir."
            )
        if not last or time.monotonic() - last > TELL_SECONDS:
            last = time.monotonic()
            processes.tell(f"{_in_use(folder)}; waiting for it ({VARIABLE}=refuse would not).")
        time.sleep(POLL_SECONDS)


def _setting() -> str:
    value = os.environ.get(VARIABLE) or "wait"
    if value not in ("wait", "refuse"):
        raise UserError(f"{VARIABLE}={value}: must be wait or refuse.")
    return value


def _me() -> dict:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }


def _in_use(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text())
        since = datetime.datetime.fromisoformat(owner["since"])
        age = datetime.datetime.now(datetime.UTC) - since
        return (
            f"{folder}: in use by process {owner['process']} on {owner['host']} for "
            f"{age.total_seconds() / 60:.0f} min"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        return f"{folder}: in use by another process"


def _tell_if_local(folder: Path) -> None:
    place, kind, options = _mount(folder)
    local = kind.startswith("fuse") and kind != "fuseblk"
    local |= not LOCAL.isdisjoint(options)
    if local:
        _tell(Path(place), f"({kind}) passes no locks on to other hosts")


def _tell(place: Path, what: str) -> None:
    if str(place) not in _told:
        _told.add(str(place))
        processes.tell(f"{place}: this file system {what}; start no work twice at a time on it.")


def _mount(folder: Path) -> tuple[str, str, list[str]]:
    """(mount point, kind, options) of the file system that a folder lies on."""
    best = ("/", "", "")
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "/", "", []
    real = os.path.realpath(folder)
    for line in lines:
        _, place, kind, options, *_ = line.split(" ")
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best[0]):
            best = (place, kind, options)
    return best[0], best[1], best[2].split(",")
