"""Vocabularies: text <-> token ids, with the exact bytes of every token.

A kind is a class (`interface.Vocabulary`), the name of its file in a run folder and, if it can be
trained here, a function.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from specialm.common.errors import UserError
from specialm.data.vocabularies import bpe, entropy, patches, plain_bytes, tokenizer_json, unigram
from specialm.data.vocabularies.extending import extend
from specialm.data.vocabularies.interface import Vocabulary
from specialm.data.vocabularies.longest import limit

__all__ = ["KINDS", "Kind", "Vocabulary", "extend", "limit", "of_run", "read", "train"]


@dataclass(frozen=True)
class Kind:
    """A kind of vocabularies that are trained here."""

    file: str  # in a run folder
    train: Callable[[Iterable[str], Path, int, int], Vocabulary]  # (texts, path, size, longest)


# data.vocabulary_kind
KINDS = {
    "unigram": Kind(unigram.FILE, unigram.train),
    "bpe": Kind(tokenizer_json.FILE, bpe.train),
    "bytes": Kind(plain_bytes.FILE, plain_bytes.train),
    "patches": Kind(patches.FILE, patches.train),
    "entropy": Kind(entropy.FILE, entropy.train),
}
# Files of JSON with a name of their own; any other name is that of a tokenizer.json.
READERS: dict[str, Callable[[Path], Vocabulary]] = {
    plain_bytes.FILE: plain_bytes.PlainBytes,
    patches.FILE: patches.Patches,
    entropy.FILE: entropy.EntropyPatches,
}


def read(path: str | Path) -> Vocabulary:
    """Read a vocabulary of any kind.

    Args:
      path: a tokenizer.json (any name that ends in .json), a SentencePiece model, or a folder that
        holds either, such as a run folder.

    Raises:
      UserError: it is neither.

    """
    path = Path(path)
    if path.is_dir():
        return of_run(path, f"data.vocabulary={str(path)!r}")
    if path.name in READERS:
        return READERS[path.name](path)
    if path.suffix == ".json":
        return tokenizer_json.TokenizerJson(path)
    return unigram.Unigram(path)


def of_run(folder: Path, who: str = "") -> Vocabulary:
    """Read the vocabulary that lies in a run folder.

    Args:
      folder: of the run.
      who: names the folder, for the error.

    Raises:
      UserError: there is none.

    """
    for kind in KINDS.values():
        if (folder / kind.file).exists():
            return read(folder / kind.file)
    names = " or ".join(kind.file for kind in KINDS.values())
    raise UserError(f"{who or f'--checkpoint={folder}'}: no {names} there; restore the file.")


def train(
    texts: Iterable[str], folder: Path, size: int, kind: str = "unigram", longest: int = 0
) -> Vocabulary:
    """Train a vocabulary on `texts` and write it into a folder.

    Args:
      texts: any.
      folder: of the vocabulary.
      size: pieces.
      kind: one of KINDS.
      longest: bytes of a piece; 0 for any number.

    Raises:
      UserError: there is too little text for `size` tokens, or `size` is too small.

    """
    trained = KINDS[kind].train(texts, folder / KINDS[kind].file, size, longest)
    return limit(trained, folder, longest) if longest else trained
