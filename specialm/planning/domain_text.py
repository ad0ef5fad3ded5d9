"""What can be known of a domain before anything is trained: how much text, and how hard it is.

How hard is measured by interpolated Kneser-Ney models of bytes (`evaluation/kneser_ney.py`), so
that no vocabulary is needed: bits per byte of held-out documents under the model of the domain's
own training text, at sizes up to all of it, and under its mixture with the model of a sample of the
generic text. Both take seconds.
"""

import collections
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from specialm.common import progress
from specialm.common.errors import UserError
from specialm.data import sources
from specialm.data.documents import Document, chance
from specialm.data.windows import Split
from specialm.evaluation import ngrams
from specialm.evaluation.kneser_ney import KneserNey
from specialm.evaluation.ngrams import Windows
from specialm.planning.evidence import Curve

ORDER, WINDOW, VALUES = 5, 512, 256
SMALLEST, LARGEST = 15_000, 480_000  # bytes of training text that n-gram models are made of
HELD_OUT, SAMPLE = 300_000, 2_000_000  # bytes that are scored, and of the generic sample
READ = 200_000_000  # bytes of generic text that the sample is drawn from, at most
LEAST_HELD_OUT = 2_000
FEW, PART = 4, 3_000  # fewer documents than FEW are cut into parts of so many letters
SPLIT = Split(0.25, 0.15)  # data.specialist_heldout_fraction and specialist_valid_fraction


@dataclass(frozen=True)
class DomainText:
    """A domain's text, measured.

    Attributes:
      train_bytes, heldout_bytes: of the two parts; what validates is in neither.
    """

    name: str
    documents: int
    train_bytes: int
    heldout_bytes: int
    curve: Curve


def measure(
    source: str, generic: str = "", limit: int = 0, corpora_root: str = "data/corpora"
) -> DomainText:
    """Measures a user's text.

    Args:
      source: a source or a path, as --source.
      generic: likewise, the generic text; "" leaves out the mixture.
      limit: bytes that are trained on, at most; 0 for all.

    Raises:
      UserError: there is no such text, or too little of it.
    """
    name, spec = sources.resolve_source(source)
    documents = list(_read(spec, corpora_root))
    parts = documents if len(documents) >= FEW else [p for d in documents for p in _cut(d)]
    sides: dict[str, list[Document]] = {"train": [], "valid": [], "heldout": []}
    for part in sorted(parts, key=lambda part: chance("plan", part.id)):
        sides[SPLIT.assign(part)].append(part)
    train, heldout = (_bytes(sides[side]) for side in ("train", "heldout"))
    train = train[:limit] if limit else train
    if len(train) < SMALLEST or len(heldout) < LEAST_HELD_OUT:
        raise UserError(
            f"--source={source}: {len(train):,} bytes to train on and {len(heldout):,} held out; a "
            f"forecast needs {SMALLEST:,} and {LEAST_HELD_OUT:,}."
        )
    model = KneserNey.of(windows(sample(generic, corpora_root)), VALUES, ORDER) if generic else None
    curve = measured(train, heldout[:HELD_OUT], model)
    return DomainText(name, len(documents), len(train), len(heldout), curve)


def measured(train: bytes, heldout: bytes, generic: KneserNey | None) -> Curve:
    """The curve of a domain's text: at SMALLEST bytes, twice as many, and so on up to LARGEST."""
    scored = windows(heldout)
    p_T = generic.probabilities(scored)[scored.mask_NxL] if generic else None
    sizes = [SMALLEST * 2**i for i in range(20) if SMALLEST * 2**i <= min(len(train), LARGEST)]
    own, mixed = [], []
    with progress.bar(len(sizes), "n-gram models", "model") as shown:
        for size in sizes:
            model = KneserNey.of(windows(train[:size]), VALUES, ORDER)
            q_T = model.probabilities(scored)[scored.mask_NxL]
            own.append(ngrams.bits_per_byte(q_T, scored.bytes))
            if p_T is not None:
                mixed.append(ngrams.bits_per_byte(ngrams.mixed(p_T, q_T)[0], scored.bytes))
            shown.update(1)
    return Curve(tuple(sizes), tuple(own), tuple(mixed))


def windows(text: bytes) -> Windows:
    """Text as windows of bytes."""
    value_T = np.frombuffer(text, np.uint8).astype(np.int64)
    count = -(-len(value_T) // WINDOW)
    tokens_NxL = np.zeros((count, WINDOW), np.int64)
    tokens_NxL.reshape(-1)[: len(value_T)] = value_T
    mask_NxL = (np.arange(count * WINDOW) < len(value_T)).reshape(count, WINDOW)
    return Windows(tokens_NxL, mask_NxL, len(value_T))


def sample(generic: str, corpora_root: str = "data/corpora") -> bytes:
    """SAMPLE bytes of a generic text: the documents of smallest hash among the first READ bytes."""
    _, spec = sources.resolve_source(generic, "generic")
    kept: list[tuple[int, str]] = []  # (- hash, text), the largest hash first
    size = read = 0
    with progress.bar(None, "reading generic text", "document") as shown:
        for document in _read(spec, corpora_root):
            heapq.heappush(kept, (-chance("plan", document.id), document.text))
            size += len(document.text)
            read += len(document.text)
            while size - len(kept[0][1]) >= SAMPLE:
                size -= len(heapq.heappop(kept)[1])
            shown.update(1)
            if read > READ:
                break
    return "\n".join(text for _, text in sorted(kept, reverse=True)).encode()[:SAMPLE]


def _read(spec: str, corpora_root: str) -> Iterable[Document]:
    source = sources.open_source(spec, corpora_root=corpora_root)
    return source.documents(collections.Counter())


def _cut(document: Document) -> list[Document]:
    return [
        Document(f"{document.id}#{i}", document.text[i : i + PART], f"{document.id}#{i}")
        for i in range(0, len(document.text), PART)
    ]


def _bytes(documents: Iterable[Document]) -> bytes:
    return "\n".join(document.text for document in documents).encode()
