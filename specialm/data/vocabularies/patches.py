"""Patches: a text is cut after every k bytes.

The patches that are known have exactly k bytes; others, and what is left at the end of a text, are
spelt byte by byte. So the steps between vectors that the model sees are of one length nearly always
(as in MegaByte, Yu et al., arXiv 2305.07185, section 2.2, whose patches are not looked up: there
are 256^k of them).
"""

import collections
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from specialm.common.files import write_json
from specialm.data.vocabularies.known_patches import (
    KnownPatches,
    join,
    most_frequent,
    room,
    split,
    split_whole,
    too_little,
)
from specialm.data.vocabularies.plain_bytes import SPECIAL

FILE, KIND = "patches.json", "patches"


class Patches(KnownPatches):
    """The vocabulary in the file `patches.json`.

    Attributes:
      stride: k, bytes of a patch.

    """

    KIND, FILE = KIND, FILE

    def _open(self, layout: dict[str, Any]) -> list[bytes]:
        self.stride = int(layout["stride"])
        return split_whole(layout["patches"], self.stride)

    def _cut(self, content: bytes) -> list[bytes]:
        return split(content, self.stride)


def train(texts: Iterable[str], path: Path, size: int, longest: int = 0) -> Patches:
    """Count the patches of `texts`; write `path` with the most frequent ones.

    Args:
      texts: any.
      path: of the vocabulary.
      size: tokens.
      longest: bytes of a patch, k.

    Raises:
      UserError: there is too little text for `size` tokens, or `size` or `longest` is too small.

    """
    wanted = room(size, longest, KIND, "bytes of every patch")
    counts: collections.Counter = collections.Counter()
    for text in texts:
        counts.update(split(text.encode("utf-8", "surrogateescape"), longest))
    whole = {patch: count for patch, count in counts.items() if len(patch) == longest}
    patches = most_frequent(whole, wanted)
    if len(patches) < wanted:
        raise too_little(size, len(patches))
    layout = {"kind": KIND, "stride": longest, "special": SPECIAL, "patches": join(patches)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, layout)
    return Patches(path)
