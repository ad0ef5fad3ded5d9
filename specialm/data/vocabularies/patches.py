"""Patches: a text is cut after every k bytes, wherever words begin and end.

The vocabulary has a token for each byte and for the patches of exactly k bytes that are the most
frequent in the training text; a patch that it does not have, and what is left at the end of a text,
is spelt byte by byte. So any bytes come back, and the steps between vectors that the model sees are
of one length nearly always (as in MegaByte, Yu et al., arXiv 2305.07185, section 2.2, whose patches
are not looked up: there are 256^k of them).
"""

import collections
import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np

from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.vocabularies import plain_bytes
from specialm.data.vocabularies.plain_bytes import SPECIAL, PlainBytes

FILE, KIND = "patches.json", "patches"


class Patches(PlainBytes):
    """The vocabulary in the file `patches.json`: plain bytes, whose ids stay, then patches.

    Attributes:
      stride: k, bytes of a patch.

    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        manifest.check(self.path)
        try:
            layout = json.loads(self.path.read_text("utf-8"))
            joined = layout["patches"].encode("latin-1")
            self.stride, kind = int(layout["stride"]), layout["kind"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read ({error!r}); restore the file.") from error
        if kind != KIND or self.stride < 2 or len(joined) % self.stride:
            raise UserError(f"{path}: holds no patches of equal length; restore the file.")
        self._patches = _cut(joined, self.stride)
        self._ids = {patch: plain_bytes.SIZE + i for i, patch in enumerate(self._patches)}
        self.sha256 = hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()

    @property
    def files(self) -> dict[str, Path]:
        """The one file."""
        return {FILE: self.path}

    @property
    def size(self) -> int:
        """V: 259 and the patches."""
        return plain_bytes.SIZE + len(self._patches)

    def encode_bytes(self, content: bytes) -> list[int]:
        """Return the token ids of any bytes."""
        tokens: list[int] = []
        for patch in _cut(content, self.stride):
            token = self._ids.get(patch)
            tokens += super().encode_bytes(patch) if token is None else [token]
        return tokens

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of each token; b"" for the first three."""
        single = [bytes([byte]) for byte in range(256)]
        return [b""] * len(SPECIAL) + single + self._patches

    def _offsets(self, text: str, count: int) -> np.ndarray:
        return np.array([0, *accumulate(self.piece_bytes[self.encode([text])[0]])])


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
    if longest < 2:
        raise UserError(
            f"data.longest_piece={longest}: with data.vocabulary_kind='patches' it is the bytes of "
            "every patch; set it to at least 2."
        )
    wanted = size - plain_bytes.SIZE
    if wanted < 1:
        raise UserError(
            f"data.vocabulary_size={size}: at least {plain_bytes.SIZE + 1} for patches and bytes."
        )
    counts: collections.Counter = collections.Counter()
    for text in texts:
        counts.update(_cut(text.encode("utf-8", "surrogateescape"), longest))
    found = sorted((-count, patch) for patch, count in counts.items() if len(patch) == longest)
    if len(found) < wanted:
        most = plain_bytes.SIZE + len(found)
        raise UserError(f"data.vocabulary_size={size}: at most {most} for this text.")
    joined = b"".join(patch for _, patch in found[:wanted]).decode("latin-1")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"kind": KIND, "stride": longest, "special": SPECIAL, "patches": joined})
    return Patches(path)


def _cut(content: bytes, stride: int) -> list[bytes]:
    return [content[at : at + stride] for at in range(0, len(content), stride)]
