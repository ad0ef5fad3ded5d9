"""Plain bytes: a token for each byte of UTF-8, and three that stand for no text.

Ids as seqio and T5 expect: pad 0, eos 1, unk 2; then the bytes. Nothing is trained.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.data.vocabularies.interface import Vocabulary

FILE = "bytes.json"
SPECIAL = {"<pad>": 0, "</s>": 1, "<unk>": 2}
SIZE = len(SPECIAL) + 256
LAYOUT = {"kind": "bytes", "special": SPECIAL}  # bytes follow


class PlainBytes(Vocabulary):
    """The vocabulary that the file `bytes.json` stands for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        manifest.check(self.path)
        try:
            layout = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error}); restore the file.") from error
        if layout != LAYOUT:
            raise UserError(f"{path}: is not {json.dumps(LAYOUT)}; restore the file.")
        self.sha256 = hashlib.sha256(json.dumps(LAYOUT).encode()).hexdigest()

    @property
    def files(self) -> dict[str, Path]:
        """The one file."""
        return {FILE: self.path}

    @property
    def size(self) -> int:
        """V: 259."""
        return SIZE

    @property
    def eos(self) -> int:
        """The id of the end of a document."""
        return SPECIAL["</s>"]

    @property
    def special(self) -> dict[str, int]:
        """Pad, end, unknown."""
        return dict(SPECIAL)

    def encode(self, texts: list[str], threads: int | None = None) -> list[list[int]]:
        """Return the token ids of each text, without eos."""
        return [self.encode_bytes(text.encode("utf-8", "surrogateescape")) for text in texts]

    def encode_bytes(self, content: bytes) -> list[int]:
        """Return the token ids of any bytes."""
        return (np.frombuffer(content, np.uint8).astype(np.int32) + len(SPECIAL)).tolist()

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids; what is no UTF-8 is marked by U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_all(self, tokens_BxL: np.ndarray) -> list[str]:
        """Return the text of each row."""
        return [self.decode(row) for row in tokens_BxL]

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The byte of each token; b"" for the first three."""
        return [b""] * len(SPECIAL) + [bytes([byte]) for byte in range(256)]

    @property
    def is_lossless(self) -> bool:
        """True."""
        return True

    def _offsets(self, text: str, count: int) -> np.ndarray:
        return np.arange(count + 1)


def train(texts: Iterable[str], path: Path, size: int, longest: int = 0) -> PlainBytes:
    """Write `path`; the texts are not looked at.

    Raises:
      UserError: another size is asked for.

    """
    if size != SIZE:
        raise UserError(
            f"data.vocabulary_size={size}: data.vocabulary_kind='bytes' has {SIZE} tokens; set it "
            "to that."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, LAYOUT)
    return PlainBytes(path)
