"""Documents -> windows, and the split of documents into training, validation and held-out sets.

Letters: N windows.
"""

import collections
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from specialm.data.documents import Document, Source, stable_hash
from specialm.data.vocabularies import Vocabulary

SPLITS = ("train", "valid", "heldout")
BATCH_BYTES = 1 << 20  # text encoded in one call


@dataclass(frozen=True)
class Split:
    """Which documents are held out: a pure function of a document's name and text.

    Groups (a whole book) are held out together, and documents of equal text always lie on the
    same side of training and validation. Adding documents never moves another one.
    """

    heldout: float
    valid: float = 0.0

    def of(self, document: Document) -> str:
        """train | valid | heldout"""
        if document.group_key < self.heldout * 2**64:
            return "heldout"
        if stable_hash("valid" + document.text) < self.valid * 2**64:
            return "valid"
        return "train"


@dataclass(frozen=True)
class DocumentWindows:
    """One document cut into windows: tokens (with eos at the end), where each ends, its bytes."""

    id: str
    key: int
    tokens: np.ndarray  # int [tokens]
    ends_N: np.ndarray  # int64, index into tokens
    bytes_N: np.ndarray  # int64, UTF-8 bytes of text


def cut(document: Document, tokens: list[int], vocabulary: Vocabulary, context: int):
    """Non-overlapping windows of at most `context` tokens; every token is in exactly one."""
    count = len(tokens) + 1  # eos
    ends_N = np.minimum(np.arange(context, count + context, context), count)
    bytes_N = vocabulary.window_bytes(document.text, tokens, ends_N)
    return DocumentWindows(
        document.id, document.key, np.append(tokens, vocabulary.eos), ends_N, bytes_N
    )


def windows(
    source: Source,
    vocabulary: Vocabulary,
    context: int,
    split: Split,
    name: str,
    counts: collections.Counter,
    skip: int = 0,
) -> Iterator[DocumentWindows]:
    """The windows of all documents of one split, in source order.

    Args:
      name: train | valid | heldout.
      counts: gets what was read, left to other splits and skipped.
      skip: documents of this split to pass over unencoded (they are in the store already).

    """
    for batch in _batches(source, split, name, counts, skip):
        encoded = vocabulary.encode([document.text for document in batch])
        for document, tokens in zip(batch, encoded, strict=True):
            yield cut(document, tokens, vocabulary, context)


def _batches(source, split, name, counts, skip) -> Iterator[list[Document]]:
    batch, size = [], 0
    for document in source.documents(counts):
        side = split.of(document)
        counts[f"split: {side}"] += 1
        if side != name:
            continue
        if skip:
            skip -= 1
            continue
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
