"""SentencePiece vocabularies: trained on generic text or given.

Ids as seqio and T5 expect: pad 0, eos 1, unk 2. A vocabulary trained here loses no byte: no
normalisation, white space preserved, newlines are pieces and unknown characters fall back to bytes.
The one exception is U+2581, SentencePiece's own mark of a space, which comes back as a space. A
given vocabulary may lose more: `changes` says of a text whether it does.
"""

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.files import write_bytes
from specialm.data.text_files import character_start
from specialm.data.vocabularies.interface import Vocabulary

FILE = "vocabulary.model"  # in a run folder
PAD, EOS, UNK = 0, 1, 2
SPACE_MARK = "\u2581"
LINE_BYTES = 1 << 16  # that SentencePiece trains on at a time; it leaves longer lines out unseen
# Characters without a space among them that are trained on at a time: the sums over all ways to cut
# a longer run lose their precision, and with it most pieces of scripts that set no spaces.
RUN = 256
CHARACTERS = 16  # of a piece, at most: SentencePiece's own default
LONG_RUN = re.compile(rf"\S{{{RUN}}}(?=\S)")
# What SentencePiece keeps for itself: a line with it is left out of the training unseen.
RESERVED = "\u2585"


class Unigram(Vocabulary):
    """A SentencePiece model read from `path`."""

    def __init__(self, path: str | Path):
        import sentencepiece

        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(
                f"data.vocabulary={str(path)!r}: no such SentencePiece model; give the path of one."
            )
        manifest.check(self.path)
        content = self.path.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(content)
        except RuntimeError as error:
            raise UserError(
                f"data.vocabulary={str(path)!r}: not a SentencePiece model; give the path of one."
            ) from error
        if self._model.eos_id() < 0:
            raise UserError(
                f"data.vocabulary={str(path)!r}: has no end-of-sequence piece; train it with one."
            )

    @property
    def files(self) -> dict[str, Path]:
        """The model."""
        return {FILE: self.path}

    @property
    def size(self) -> int:
        """V, the number of pieces."""
        return self._model.vocab_size()

    @property
    def eos(self) -> int:
        """The id of the end of a document."""
        return self._model.eos_id()

    @property
    def special(self) -> dict[str, int]:
        """The control pieces and the unknown one."""
        no_text = (self._model.is_control, self._model.is_unknown)
        ids = (i for i in range(self.size) if any(is_of(i) for is_of in no_text))
        return {self._model.id_to_piece(i): i for i in ids}

    def encode(self, texts: list[str], threads: int | None = None) -> list[list[int]]:
        """Return the token ids of each text, without eos."""
        return self._model.encode(texts, num_threads=threads or os.cpu_count())

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of token ids, without pad and eos."""
        tokens = tokens.tolist() if isinstance(tokens, np.ndarray) else map(int, tokens)
        return self._model.decode([token for token in tokens if token not in (PAD, self.eos)])

    def decode_all(self, tokens_BxL: np.ndarray) -> list[str]:
        """Return the text of each row, without pad and eos."""
        text_BxL = (tokens_BxL != PAD) & (tokens_BxL != self.eos)
        return self._model.decode(
            [
                tokens_L[text_L].tolist()
                for tokens_L, text_L in zip(tokens_BxL, text_BxL, strict=True)
            ]
        )

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes of each piece; b"" for control pieces."""
        return [self._bytes_of(i) for i in range(self.size)]

    def _bytes_of(self, i: int) -> bytes:
        piece = self._model.id_to_piece(i)
        if self._model.is_byte(i):
            return bytes([int(piece[1:-1], 16)])  # <0x0A>
        if self._model.is_control(i) or self._model.is_unknown(i) or self._model.is_unused(i):
            return b""
        return piece.replace(SPACE_MARK, " ").encode()

    @cached_property
    def is_lossless(self) -> bool:
        """Whether the model gives every text back, but for SPACE_MARK: as its own file says."""
        try:
            from sentencepiece import sentencepiece_model_pb2 as layout
        except Exception:  # no protobuf, one too old or too new (its own error): look at every text
            return False
        # The class is not in what mypy sees of the module.
        model = getattr(layout, "ModelProto").FromString(self._model.serialized_model_proto())  # noqa: B009
        normalizer = model.normalizer_spec
        return (
            not normalizer.precompiled_charsmap
            and not normalizer.remove_extra_whitespaces
            and not normalizer.add_dummy_prefix
            and normalizer.escape_whitespaces
            and model.trainer_spec.byte_fallback
            and not model.trainer_spec.treat_whitespace_as_suffix
        )

    def changes(self, text: str, tokens: list[int] | None = None) -> bool:
        """Return whether decoding the encoded text does not give it back (see `Vocabulary`)."""
        return SPACE_MARK in text if self.is_lossless else super().changes(text, tokens)

    def _offsets(self, text: str, count: int) -> np.ndarray:
        """Return int64 [count + 1]: bytes of `text` before each token, from SentencePiece."""
        pieces = self._model.encode(text, return_type="proto").pieces
        return np.array([0] + [piece.end for piece in pieces][:count])


def train(texts: Iterable[str], path: Path, size: int, longest: int = 0) -> Unigram:
    """Train a unigram model on `texts` and write it to `path`.

    Args:
      texts: any.
      path: of the model.
      size: pieces.
      longest: characters of a piece, at most 16; 0 for 16.

    Raises:
      UserError: there is too little text for `size` pieces, or `size` is too small.

    """
    import sentencepiece

    model = io.BytesIO()  # not a file: SentencePiece would write its name into the model
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            bos_id=-1,
            byte_fallback=True,
            user_defined_symbols=["\n"],
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            character_coverage=0.9995,
            num_threads=os.cpu_count(),
            minloglevel=2,
            max_sentence_length=LINE_BYTES,
            max_sentencepiece_length=min(longest or CHARACTERS, CHARACTERS),
        )
    except (RuntimeError, ValueError) as error:
        limit = re.search(r"value <= (\d+)|\d+ vs (\d+)", str(error))
        hint = str(error).strip()
        if limit:
            hint = "at {} for this text".format(
                f"most {limit[1]}" if limit[1] else f"least {int(limit[2]) + 1}"
            )
        raise UserError(f"data.vocabulary_size={size}: {hint}.") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, model.getvalue())
    return Unigram(path)


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Yield the lines, long ones cut so that SentencePiece leaves none out and learns of all."""
    for text in texts:
        for line in LONG_RUN.sub(r"\g<0>\n", text.replace(RESERVED, "\n")).split("\n"):
            if line.strip():
                yield from _pieces_of_line(line)


def _pieces_of_line(line: str) -> Iterator[str]:
    """Yield a line in pieces of at most LINE_BYTES, cut between characters."""
    if 4 * len(line) <= LINE_BYTES:
        yield line
        return
    content = line.encode()
    while len(content) > LINE_BYTES:
        end = character_start(content, LINE_BYTES)
        yield content[:end].decode()
        content = content[end:]
    yield content.decode()
