"""Documents -> windows, and the split of documents into training, validation and held-out sets."""

import collections
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from specialm.data.documents import Document, Source, stable_hash
from specialm.data.vocabularies import Vocabulary

SPLITS = ("train", "valid", "heldout")
BATCH_BYTES = 1 << 20  # text encoded in one call
CHANGED = "changed: documents that the vocabulary does not give back"  # a key of counts


@dataclass(frozen=True)
class Split:
    """Which documents are held out: a pure function of a document.

    Groups (a whole book) are held out together, and documents of equal text always lie on the
    same side of training and validation. Adding documents never moves another one, unless
    documents come with a `split_rank`.
    """

    heldout: float
    valid: float = 0.0

    def assign(self, document: Document) -> str:
        """Return the split of a document: train | valid | heldout."""
        rank = document.split_rank
        held = document.group_key < self.heldout * 2**64 if rank is None else rank < self.heldout
        if held:
            return "heldout"
        if stable_hash("valid" + document.text) < self.valid * 2**64:
            return "valid"
        return "train"


@dataclass(frozen=True)
class DocumentWindows:
    """One document cut into windows: tokens (with eos last), the end of each window, its bytes."""

    id: str
    key: int
    tokens: np.ndarray  # int [tokens]
    ends_N: np.ndarray  # int64, index into tokens
    bytes_N: np.ndarray  # int64, UTF-8 bytes of text


def cut(
    document: Document, tokens: list[int], vocabulary: Vocabulary, context: int
) -> DocumentWindows:
    """Cut a document into non-overlapping windows of at most `context` tokens.

    Args:
      document: its text.
      tokens: of the text, without eos.
      vocabulary: that encoded it.
      context: tokens of a window, at most.

    """
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
    """Yield the windows of all documents of one split, in source order.

    Args:
      source: of the documents.
      vocabulary: to encode them with.
      context: tokens of a window, at most.
      split: assigns documents to splits.
      name: train | valid | heldout.
      counts: the documents read, those of each split and those skipped are added to it.
      skip: documents of this split to pass over unencoded (they are already in the store).

    """
    documents = _of_split(source, split, name, counts)
    for document in itertools.islice(documents, skip):
        _count_changed(vocabulary.changes(document.text), counts)
    for batch in _batches(documents):
        encoded = vocabulary.encode([document.text for document in batch])
        for document, tokens in zip(batch, encoded, strict=True):
            _count_changed(vocabulary.changes(document.text, tokens), counts)
            yield cut(document, tokens, vocabulary, context)


def _count_changed(changed: bool, counts: collections.Counter) -> None:
    if changed:
        counts[CHANGED] += 1


def changed_share(counts: Mapping[str, int], split: str) -> float:
    """Return the share of a split's documents that its vocabulary does not give back."""
    return counts.get(CHANGED, 0) / max(counts.get(f"split: {split}", 0), 1)


def _of_split(
    source: Source, split: Split, name: str, counts: collections.Counter
) -> Iterator[Document]:
    for document in source.documents(counts):
        side = split.assign(document)
        counts[f"split: {side}"] += 1
        if side == name:
            yield document


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Yield the documents in batches of about BATCH_BYTES."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
