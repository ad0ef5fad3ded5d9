"""What a vocabulary of any kind is asked for."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common.errors import UserError

ESCAPED = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8, as Python holds it in a text


class Vocabulary(ABC):
    """Text <-> token ids.

    Attributes:
      path: the file that it was read from.
      sha256: of all that determines ids.

    """

    path: Path
    sha256: str

    def __reduce__(self):
        return type(self), (self.path,)  # other processes read it themselves

    @property
    @abstractmethod
    def files(self) -> dict[str, Path]:
        """Name in a run folder -> file: all that reading it back needs."""

    @property
    @abstractmethod
    def size(self) -> int:
        """V, the number of tokens."""

    @property
    @abstractmethod
    def eos(self) -> int:
        """The id of the end of a document."""

    @property
    def start(self) -> int:
        """The id that stands before a window."""
        return 0

    @property
    def stops(self) -> frozenset[int]:
        """The ids at which a continuation ends."""
        return frozenset([self.eos])

    @property
    def special(self) -> dict[str, int]:
        """Tokens that stand for no text, by name."""
        return {}

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of a conversation; None without one."""
        return None

    @abstractmethod
    def encode(self, texts: list[str], threads: int | None = None) -> list[list[int]]:
        """Return the token ids of each text, without eos; names of special tokens are text."""

    def encode_bytes(self, content: bytes) -> list[int]:
        """Return token ids of any bytes, which `decode_bytes` gives back: what is not UTF-8, or
        would come back as another text, is spelt byte by byte.

        Raises:
          UserError: the vocabulary has no token for one of these bytes.

        """
        text = content.decode("utf-8", "surrogateescape")
        parts = re.split(f"({ESCAPED.pattern}+)", text)
        return [token for part in parts for token in self._exact(part)]

    def _exact(self, text: str) -> list[int]:
        content = text.encode("utf-8", "surrogateescape")
        if not ESCAPED.search(text):
            tokens = self.encode([text])[0]
            if self.decode_bytes(tokens) == content:
                return tokens
            if len(text) > 1:
                half = len(text) // 2
                return self._exact(text[:half]) + self._exact(text[half:])
        return [self._token_of(byte) for byte in content]

    def _token_of(self, byte: int) -> int:
        if byte not in self._tokens_of_bytes:
            raise UserError(
                f"{self.path}: this vocabulary has no token for the byte {byte:#04x}; take one "
                "with a token for each, such as those that are trained here."
            )
        return self._tokens_of_bytes[byte]

    @cached_property
    def _tokens_of_bytes(self) -> dict[int, int]:
        found = enumerate(self.token_bytes)
        return {content[0]: number for number, content in found if len(content) == 1}

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Return the bytes that token ids stand for, be they UTF-8 or not."""
        return b"".join(self.token_bytes[int(token)] for token in tokens)

    @abstractmethod
    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids, without special tokens."""

    @abstractmethod
    def decode_all(self, tokens_BxL: np.ndarray) -> list[str]:
        """Return the text of each row of a store."""

    @property
    @abstractmethod
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of text that each token stands for, also where they are a part of a
        character; b"" for special tokens.
        """

    @property
    def pieces(self) -> list[bytes | None]:
        """`token_bytes`, with None for an id that stands neither for text nor for anything else,
        so that no text gives it.
        """
        roles = {*self.special.values(), self.start, self.eos, *self.stops}
        return [
            content if content or number in roles else None
            for number, content in enumerate(self.token_bytes)
        ]

    @cached_property
    def piece_bytes(self) -> np.ndarray:
        """int32 [size]: UTF-8 bytes of text that each token stands for."""
        return np.array([len(content) for content in self.token_bytes], np.int32)

    @property
    @abstractmethod
    def is_lossless(self) -> bool:
        """Whether it gives every text back, as its own file says; False if that is not known."""

    def changes(self, text: str, tokens: list[int] | None = None) -> bool:
        """Return whether decoding the encoded text does not give it back.

        Args:
          text: any.
          tokens: its encoding, if it is known.

        """
        if self.is_lossless:
            return False
        return self.decode(self.encode([text])[0] if tokens is None else tokens) != text

    def window_bytes(self, text: str, tokens: list[int], ends: np.ndarray) -> np.ndarray:
        """Return the UTF-8 bytes of `text` in each window of its tokens.

        Args:
          text: of one document.
          tokens: the encoding of `text`.
          ends: int [N], token index at which each window ends; the last is len(tokens) or more.

        Returns:
          int64 [N], which sums to the bytes of the whole text, whatever the vocabulary.

        """
        total = len(text.encode())
        ends = np.minimum(ends, len(tokens))
        running = np.concatenate([[0], np.cumsum(self.piece_bytes[tokens])])
        if running[-1] != total:  # a given vocabulary that normalises the text: use its offsets
            running = self._offsets(text, len(tokens))
        running[-1] = total
        return np.diff(running[ends], prepend=0)

    @abstractmethod
    def _offsets(self, text: str, count: int) -> np.ndarray:
        """Return int64 [count + 1]: bytes of `text` before each token."""
