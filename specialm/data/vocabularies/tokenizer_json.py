"""Vocabularies in the layout of Hugging Face: tokenizer.json, tokenizer_config.json beside it.

Byte-level BPE above all (Radford et al. 2019, section 2.2), trained here (`bpe.py`) or imported; of
others what the library `tokenizers` reads. Special tokens have no bytes, and their names in a text
are text.
"""

import collections
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies.interface import Vocabulary

FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
# What divides documents where models are pretrained; a chat model's own eos ends a turn instead.
DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>")
EOS_NAMES = (*DOCUMENT_ENDS, "</s>", "<eos>")  # of a tokenizer.json without its config
SPACE_MARK = "\u2581"
BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenizerJson(Vocabulary):
    """A vocabulary read from a `tokenizer.json`."""

    def __init__(self, path: str | Path):
        from tokenizers import Tokenizer

        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"data.vocabulary={str(path)!r}: no such file; give a tokenizer.json.")
        content = self.path.read_bytes()
        try:
            self._tokenizer = Tokenizer.from_buffer(content)
            self._json = json.loads(content)
        except Exception as error:  # the library raises plain exceptions
            raise UserError(
                f"data.vocabulary={str(path)!r}: not a tokenizer.json ({error}); give the path of "
                "one, or of a SentencePiece model with another ending."
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # their names in a text are text
        self.config = self._read_config()
        settings = json.dumps(self.config, sort_keys=True).encode()
        self.sha256 = hashlib.sha256(content + settings).hexdigest()
        self._eos = self._find_eos()
        self._start = self._find_start()

    @property
    def files(self) -> dict[str, Path]:
        """tokenizer.json and, if there is one, tokenizer_config.json."""
        config = self.path.with_name(CONFIG_FILE)
        return {FILE: self.path, **({CONFIG_FILE: config} if config.exists() else {})}

    def _read_config(self) -> dict[str, Any]:
        path = self.path.with_name(CONFIG_FILE)
        if not path.exists():
            return {}
        try:
            config = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{path}: is not JSON ({error}); restore the file.") from error
        if not isinstance(config, dict):
            raise UserError(f"{path}: must be a JSON object; restore the file.")
        return config

    def id_of(self, name: str) -> int | None:
        """The id of a role in tokenizer_config.json, such as "bos_token"; None without one."""
        token = self.config.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        return self._tokenizer.token_to_id(token) if isinstance(token, str) else None

    def _find_eos(self) -> int:
        for name in DOCUMENT_ENDS:
            if name in self.special:
                return self.special[name]
        declared = self.id_of("eos_token")
        known = [declared, *map(self.special.get, EOS_NAMES)]
        for found in known:
            if found is not None:
                return found
        raise UserError(
            f"data.vocabulary={str(self.path)!r}: no token ends a document; name one as eos_token "
            f"in {CONFIG_FILE} beside it."
        )

    @property
    def adds_start(self) -> bool:
        """Whether the tokenizer itself puts `start` before every text."""
        return self._tokenizer.encode("").ids[:1] == [self._start]

    @property
    def names(self) -> list[str | None]:
        """The name of each id; None for one that no token has."""
        return self._names

    def _find_start(self) -> int:
        """What the tokenizer itself puts in front, else the end of the document before."""
        added = self._tokenizer.encode("").ids  # of no text: what is added to every one
        if added and added[0] != self.id_of("eos_token"):
            return added[0]
        names = [name for name in DOCUMENT_ENDS if name in self.special]
        bos = self.id_of("bos_token")
        return self._eos if names or bos is None else bos

    @property
    def size(self) -> int:
        """V, the number of tokens: one more than the largest id."""
        return len(self._names)

    @property
    def eos(self) -> int:
        """The id of the end of a document."""
        return self._eos

    @property
    def start(self) -> int:
        """The id that stands before a window."""
        return self._start

    @property
    def stops(self) -> frozenset[int]:
        """The end of a document, and of a turn of a chat model."""
        return frozenset({self._eos, self.id_of("eos_token")} - {None})  # type: ignore[arg-type]

    @cached_property
    def special(self) -> dict[str, int]:
        """Tokens that stand for no text, by name."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {token.content: i for i, token in added.items() if token.special}

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of a conversation; None without one."""
        return self.config.get("chat_template")

    @property
    def is_byte_level_bpe(self) -> bool:
        """Whether it merges pairs of tokens, from single bytes on."""
        return self._is_byte_level and (self._json.get("model") or {}).get("type") == "BPE"

    def words(self, texts: Iterable[str]) -> Iterator[tuple[list[str], int]]:
        """Yield the names of the tokens of each different word, and how often it comes; a word is
        what the tokenizer cuts a text into before it merges.
        """
        counts: collections.Counter[str] = collections.Counter()
        normalizer, cutter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        for text in texts:
            text = normalizer.normalize_str(text) if normalizer else text
            counts.update(word for word, _ in cutter.pre_tokenize_str(text))
        for word, count in counts.items():
            yield [token.value for token in self._tokenizer.model.tokenize(word)], count

    @property
    def layout(self) -> dict[str, Any]:
        """What tokenizer.json holds."""
        return self._json

    def encode(self, texts: list[str], threads: int | None = None) -> list[list[int]]:
        """Return the token ids of each text, without eos; names of special tokens are text."""
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [each.ids for each in encoded]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids, without special tokens."""
        ids = [int(token) for token in tokens]
        if not self._is_byte_level:
            return self._tokenizer.decode(ids, skip_special_tokens=True)
        return b"".join(self.token_bytes[i] for i in ids).decode("utf-8", errors="replace")

    def decode_all(self, tokens_BxL: np.ndarray) -> list[str]:
        """Return the text of each row, up to the end of its document."""
        is_end_BxL = tokens_BxL == self._eos
        ends_B = np.where(is_end_BxL.any(1), is_end_BxL.argmax(1), tokens_BxL.shape[1])
        return [self.decode(row[:end]) for row, end in zip(tokens_BxL, ends_B, strict=True)]

    @cached_property
    def _names(self) -> list[str | None]:
        vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        names: list[str | None] = [None] * (max(vocab.values()) + 1)
        for name, i in vocab.items():
            names[i] = name
        return names

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each token, also of a part of a character; b"" for special tokens."""
        added = self._tokenizer.get_added_tokens_decoder()

        def of(i: int, name: str | None) -> bytes:
            if name is None or (i in added and added[i].special):
                return b""
            if not self._is_byte_level:
                return _with_mark(name)
            return name.encode() if i in added else _byte_level(name)

        return [of(i, name) for i, name in enumerate(self._names)]

    @cached_property
    def _is_byte_level(self) -> bool:
        return any(part["type"] == "ByteLevel" for part in _steps(self._json, "decoder"))

    @cached_property
    def is_lossless(self) -> bool:
        """Whether the file has no step that may change a text."""
        strips = any(
            token.get("lstrip") or token.get("rstrip") or token.get("single_word")
            for token in self._json.get("added_tokens") or ()
            if not token.get("special")
        )
        steps = _steps(self._json, "pre_tokenizer")
        return (
            self._is_byte_level
            and not self._json.get("normalizer")
            and not strips
            and all(map(_keeps_all, steps))
            and set(BYTE_LETTERS) <= set(self._names)
        )

    def _offsets(self, text: str, count: int) -> np.ndarray:
        """Return int64 [count + 1]: bytes of `text` before each token, from the library."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        bytes_before = np.cumsum([0, *(len(character.encode()) for character in text)])
        ends = [end for _, end in encoded.offsets][:count]
        return bytes_before[np.array([0, *ends], np.int64)]


def _steps(layout: dict, part: str) -> list[dict]:
    """The steps of a pre-tokenizer or a decoder, one after the other."""
    found = layout.get(part) or {}
    if found.get("type") == "Sequence":
        return found.get("pretokenizers") or found.get("decoders") or []
    return [found] if found else []


def _keeps_all(step: dict) -> bool:
    """Whether a step of a pre-tokenizer leaves nothing out and adds nothing."""
    if step["type"] == "ByteLevel":
        return not step.get("add_prefix_space")
    return step["type"] == "Digits" or (step["type"] == "Split" and step["behavior"] != "Removed")


def _letters() -> dict[str, int]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's): printable ones of
    Latin-1 for themselves, the others in turn from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


BYTE_LETTERS = _letters()


def _byte_level(name: str) -> bytes:
    if all(letter in BYTE_LETTERS for letter in name):
        return bytes(BYTE_LETTERS[letter] for letter in name)
    return name.encode()


def _with_mark(name: str) -> bytes:
    """Of a vocabulary that marks spaces and falls back to bytes, as SentencePiece's."""
    byte = BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(SPACE_MARK, " ").encode()
