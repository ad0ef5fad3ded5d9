"""A vocabulary none of whose pieces has more than so many bytes: longer ones are never used again,
so that a text is cut into shorter ones, and nothing is lost. Ids stay.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from specialm.common.errors import UserError
from specialm.common.files import write_bytes, write_json
from specialm.data.vocabularies.interface import Vocabulary
from specialm.data.vocabularies.tokenizer_json import CONFIG_FILE, FILE, TokenizerJson
from specialm.data.vocabularies.unigram import FILE as UNIGRAM_FILE
from specialm.data.vocabularies.unigram import Unigram

PIECE = b"\x0a"  # SentencePiece's file: the tag of a piece, a message of so many bytes
UNUSED = b"\x18\x05"  # in a piece: its type is UNUSED; the last of several values holds


def limit(vocabulary: Vocabulary, folder: Path, longest: int) -> Vocabulary:
    """Write the vocabulary without pieces of more than `longest` bytes into a folder; read it.

    Raises:
      UserError: it is of a kind that cannot do without them.

    """
    folder.mkdir(parents=True, exist_ok=True)
    long = {i for i, piece in enumerate(vocabulary.token_bytes) if len(piece) > longest}
    if isinstance(vocabulary, Unigram):
        write_bytes(
            folder / UNIGRAM_FILE, b"".join(_with_unused(vocabulary.path.read_bytes(), long))
        )
        return Unigram(folder / UNIGRAM_FILE)
    if isinstance(vocabulary, TokenizerJson):
        layout = json.dumps(_without(vocabulary, long, longest), indent=1)
        write_json(folder / CONFIG_FILE, vocabulary.config)
        write_bytes(folder / FILE, layout.encode())
        return TokenizerJson(folder / FILE)
    if long:
        raise UserError(
            f"data.longest_piece={longest}: the patches of {vocabulary.path} have "
            f"{vocabulary.piece_bytes.max()} bytes; set it to that, or to 0."
        )
    return vocabulary  # of bytes or patches


def _with_unused(content: bytes, long: set[int]) -> Iterator[bytes]:
    """Yield the fields of a SentencePiece model, these pieces marked as not used."""
    at, number = 0, 0
    while at < len(content):
        start, tag = at, content[at : at + 1]
        size, at = _varint(content, at + 1)  # all fields are messages
        message, at = content[at : at + size], at + size
        if tag == PIECE:
            if number in long:
                message += UNUSED
                yield tag + _as_varint(len(message)) + message
            else:
                yield content[start:at]
            number += 1
        else:
            yield content[start:at]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends): seven bits a byte, the lowest first."""
    value, shift = 0, 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _as_varint(value: int) -> bytes:
    digits = []
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _without(vocabulary: TokenizerJson, long: set[int], longest: int) -> dict:
    """A tokenizer.json of BPE without these tokens and all merges that they are in."""
    layout = json.loads(json.dumps(vocabulary.layout))
    model = layout["model"]
    added = [t["content"] for t in layout.get("added_tokens") or () if t["id"] in long]
    if model.get("type") != "BPE" or added:
        why = f"its added token {added[0]!r} is longer" if added else "it is no BPE vocabulary"
        raise UserError(
            f"data.longest_piece={longest}: {why} ({vocabulary.path}); set it to 0, or train a "
            "vocabulary."
        )
    model["vocab"] = {name: i for name, i in model["vocab"].items() if i not in long}
    model["merges"] = [merge for merge in model["merges"] if _is_known(merge, model["vocab"])]
    model["ignore_merges"] = False
    return layout


def _is_known(merge: str | list[str], known: dict[str, int]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left in known and right in known and left + right in known
