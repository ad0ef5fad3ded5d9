"""Finding the files of a source: below a folder, links followed once, what is left out by kind."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.documents import Counts, printable

HIDDEN = "left out: hidden files and folders"
OTHER_ENDING = "left out: files with another ending"
BROKEN_LINK = "left out: links that lead nowhere"
SEEN_LINK = "left out: links to what is read already"
LOOP = "left out: links to a folder above"
SPECIAL = "left out: neither files nor folders"
UNREADABLE = "left out: folders that cannot be read"


@dataclass(frozen=True)
class Files:
    """The files of a source, sorted, below `root` (or `root` itself), and what is left out."""

    root: Path
    files: tuple[Path, ...]
    left_out: Counts

    def name(self, path: Path) -> str:
        """Return what a file is called in the source: its path below the root."""
        return relative_name(self.root, path)


def relative_name(root: Path, path: Path) -> str:
    """Return the path below `root`, or the name alone of the root itself; printable."""
    return printable(path.name if path == root else path.relative_to(root).as_posix())


def find_files(spec: str, path: str, endings: tuple[str, ...] | None) -> Files:
    """Return the file `path`, or the files below the folder `path`.

    Links to files and folders are followed, but nothing is read twice: what can be reached without
    a link is read there, and a link to a folder above the root or above itself is a loop.

    Args:
      spec: the whole source, for errors.
      path: of a file or a folder.
      endings: that a name below a folder must have; None for any.

    Raises:
      UserError: no such path, it is neither file nor folder, or there is no such file below it.

    """
    root = Path(path)
    if not path or not os.path.exists(root):
        raise UserError(f"source {spec!r}: no such file or folder: {path!r}.")
    if root.is_file():
        return Files(root, (root,), Counts())
    if not root.is_dir():
        raise UserError(f"source {spec!r}: {path!r} is neither a file nor a folder; give one.")
    walk = _Walk(root, endings)
    files = tuple(sorted(walk.files()))
    if not files:
        wanted = "no file" if endings is None else f"no file ending in {', '.join(endings)}"
        raise UserError(f"source {spec!r}: {wanted} below {path!r}{_others(walk.left_out)}.")
    return Files(root, files, walk.left_out)


def _others(left_out: Counts) -> str:
    reasons = [f"{n} {reason.partition(': ')[2]}" for reason, n in sorted(left_out.items())]
    return f" ({', '.join(reasons)})" if reasons else ""


Identity = tuple[int, int]  # device and inode: the same for every path to a file


@dataclass
class _Walk:
    """One pass over a tree."""

    root: Path
    endings: tuple[str, ...] | None
    left_out: Counts = field(default_factory=Counts)
    links: list[Path] = field(default_factory=list)
    seen: set[Identity] = field(default_factory=set)

    def files(self) -> Iterator[Path]:
        """Yield the files: all that need no link first, then what links lead to."""
        real = self.root.resolve()
        above = {_identity(folder) for folder in real.parents}
        yield from self._folder(self.root)
        for link in self.links:  # it grows while linked folders are read
            yield from self._follow(link, above)

    def _folder(self, folder: Path) -> Iterator[Path]:
        pending = [folder]
        while pending:
            current = pending.pop()
            identity = _identity(current)
            if identity is None or identity in self.seen:
                continue
            self.seen.add(identity)
            for entry in self._entries(current):
                path = current / entry.name
                if entry.name.startswith("."):
                    self._leave(HIDDEN, path)
                elif entry.is_symlink():
                    self.links.append(path)
                elif entry.is_dir():
                    pending.append(path)
                elif entry.is_file():
                    yield from self._file(path, (identity[0], entry.inode()))
                else:
                    self._leave(SPECIAL, path)

    def _entries(self, folder: Path) -> list[os.DirEntry]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self._leave(UNREADABLE, folder)
            return []

    def _file(self, path: Path, identity: Identity) -> Iterator[Path]:
        if self.endings is not None and not path.name.endswith(self.endings):
            self._leave(OTHER_ENDING, path)
            return
        self.seen.add(identity)
        yield path

    def _follow(self, link: Path, above: set[Identity | None]) -> Iterator[Path]:
        try:
            found = link.stat()
        except (OSError, RuntimeError):  # nothing there, or a link to itself
            self._leave(BROKEN_LINK, link)
            return
        identity = (found.st_dev, found.st_ino)
        if identity in above:
            self._leave(LOOP, link)
        elif identity in self.seen:
            self._leave(SEEN_LINK, link)
        elif stat.S_ISDIR(found.st_mode):
            yield from self._folder(link)
        elif stat.S_ISREG(found.st_mode):
            yield from self._file(link, identity)
        else:
            self._leave(SPECIAL, link)

    def _leave(self, reason: str, path: Path) -> None:
        self.left_out.note(reason, relative_name(self.root, path))


def _identity(folder: Path) -> Identity | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
