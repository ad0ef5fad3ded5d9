"""What vocabularies of bytes and patches have in common, however they cut a text.

A text is cut by a rule into patches, wherever words begin and end. The vocabulary has a token for
each byte and for the patches that are the most frequent in the training text; a patch that it does
not have is spelt by the longest pieces that it has, single bytes at the least. So any bytes come
back.
"""

import hashlib
import json
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.data.vocabularies import plain_bytes
from specialm.data.vocabularies.plain_bytes import SPECIAL, PlainBytes

DIFFERENT = 1 << 16  # patches whose tokens are remembered


class KnownPatches(PlainBytes):
    """A vocabulary in one file of JSON: plain bytes, whose ids stay, then patches."""

    KIND: ClassVar[str]
    FILE: ClassVar[str]

    def __init__(self, path: str | Path):
        self.path = Path(path)
        manifest.check(self.path)
        try:
            layout = json.loads(self.path.read_text("utf-8"))
            if layout["kind"] != self.KIND:
                raise ValueError(f"its kind is {layout['kind']!r}, not {self.KIND!r}")
            self._patches = self._open(layout)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read ({error!r}); restore the file.") from error
        most = max(map(len, self._patches), default=1)
        ids = {piece: token for token, piece in enumerate(self.token_bytes) if piece}
        self._tokens_of = lru_cache(DIFFERENT)(lambda patch: spell(patch, ids, most))
        self.sha256 = hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()

    @abstractmethod
    def _open(self, layout: dict[str, Any]) -> list[bytes]:
        """Take what cuts a text from the content of the file; return the patches by id.

        What stands in it in a form that may differ between machines is replaced by what it means,
        as the digest is of the layout after it.

        Raises:
          ValueError, KeyError, TypeError, AttributeError, zlib.error: it is damaged.

        """

    @abstractmethod
    def _cut(self, content: bytes) -> list[bytes]:
        """The patches of a text, known or not."""

    @property
    def files(self) -> dict[str, Path]:
        """The one file."""
        return {self.FILE: self.path}

    @property
    def size(self) -> int:
        """V: 259 and the patches."""
        return plain_bytes.SIZE + len(self._patches)

    def encode_bytes(self, content: bytes) -> list[int]:
        """Return the token ids of any bytes."""
        return [token for patch in self._cut(content) for token in self._tokens_of(patch)]

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of each token; b"" for the first three."""
        single = [bytes([byte]) for byte in range(256)]
        return [b""] * len(SPECIAL) + single + self._patches

    def _offsets(self, text: str, count: int) -> np.ndarray:
        return np.array([0, *accumulate(self.piece_bytes[self.encode([text])[0]])])


def spell(patch: bytes, ids: Mapping[bytes, int], most: int) -> list[int]:
    """Return the token of a patch, or those of the longest pieces of it, from its beginning on.

    Args:
      patch: any bytes.
      ids: piece -> token; has every single byte.
      most: bytes of a piece.

    """
    tokens, at = [], 0
    while at < len(patch):
        end = min(len(patch), at + most)
        while patch[at:end] not in ids:
            end -= 1
        tokens.append(ids[patch[at:end]])
        at = end
    return tokens


def split(joined: str | bytes, length: int) -> list[bytes]:
    """Cut bytes (or a text of Latin-1, as JSON holds them) after every `length`; the last piece
    may have fewer.
    """
    content = joined.encode("latin-1") if isinstance(joined, str) else joined
    return [content[at : at + length] for at in range(0, len(content), length)]


def split_whole(joined: str, length: int) -> list[bytes]:
    """`split`, for patches in a file.

    Raises:
      ValueError: the last has fewer bytes, or one byte is a patch.

    """
    if length < 2 or len(joined) % length:
        raise ValueError(f"{len(joined)} bytes are no patches of {length} bytes each")
    return split(joined, length)


def join(patches: Iterable[bytes]) -> str:
    """The inverse of `split`."""
    return b"".join(patches).decode("latin-1")


def room(size: int, longest: int, kind: str, what: str) -> int:
    """Return how many patches a vocabulary of `size` tokens has.

    Args:
      size: data.vocabulary_size.
      longest: data.longest_piece.
      kind: data.vocabulary_kind.
      what: `longest` is in this kind, for the error.

    Raises:
      UserError: `size` or `longest` is too small.

    """
    if longest < 2:
        raise UserError(
            f"data.longest_piece={longest}: with data.vocabulary_kind={kind!r} it is the {what}; "
            "set it to at least 2."
        )
    if size <= plain_bytes.SIZE:
        raise UserError(
            f"data.vocabulary_size={size}: at least {plain_bytes.SIZE + 1} for patches and bytes."
        )
    return size - plain_bytes.SIZE


def most_frequent(counts: Mapping[bytes, int], wanted: int) -> list[bytes]:
    """Return so many patches, or all if there are fewer: the most frequent first, equally frequent
    ones in the order of their bytes.
    """
    return sorted(counts, key=lambda patch: (-counts[patch], patch))[:wanted]


def too_little(size: int, patches: int) -> UserError:
    """The error of a text that has only so many patches."""
    most = plain_bytes.SIZE + patches
    return UserError(f"data.vocabulary_size={size}: at most {most} for this text.")
