"""Files of tar archives, read in one pass."""

import re
import tarfile
from collections.abc import Iterator


def matching(archive: tarfile.TarFile, members: str) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files whose whole names match; links are passed over.

    Args:
      archive: open for reading, perhaps as a stream.
      members: a regular expression for names without a leading "./".
    """
    pattern = re.compile(members)
    for member in archive:
        name = member.name.removeprefix("./")
        if member.isreg() and pattern.fullmatch(name):
            stream = archive.extractfile(member)
            assert stream is not None  # it is a regular file
            yield name, stream.read()
