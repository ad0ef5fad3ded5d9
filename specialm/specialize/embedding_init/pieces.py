"""Rules that look at the bytes of tokens alone."""

import collections
from typing import Any

import numpy as np

from specialm.data.vocabularies import Vocabulary
from specialm.training.objectives import MASK


def matrix(rows: dict[int, dict[int, float]], source: Vocabulary, target: Vocabulary) -> Any:
    """The sparse matrix [V', V] of {new id: {old id: its weight}}."""
    from scipy import sparse

    entries = [(new, old, w) for new, of in rows.items() for old, w in of.items()]
    new, old, values = np.array(entries, np.float64).reshape(-1, 3).T
    places = (new.astype(np.int64), old.astype(np.int64))
    return sparse.csr_matrix((values, places), shape=(target.size, source.size))


def roles(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """{new id: old id} of what stands for no text: by name, the end and the start of a document,
    and the mark of a hidden token if neither vocabulary has a text for it.
    """
    found = {new: source.special[n] for n, new in target.special.items() if n in source.special}
    found |= {target.start: source.start, target.eos: source.eos}
    if not source.token_bytes[MASK] and not target.token_bytes[MASK]:
        found[MASK] = MASK
    return found


def shared(source: Vocabulary, target: Vocabulary) -> dict[int, int]:
    """{new id: old id} of the tokens with the same bytes.

    Some vocabularies have two tokens of the same bytes (a byte by itself, and the piece that is one
    letter): they are paired in the order of their ids.
    """
    known: dict[bytes, list[int]] = collections.defaultdict(list)
    for old, content in enumerate(source.token_bytes):
        if content:
            known[content].append(old)
    found: dict[int, int] = {}
    seen: collections.Counter = collections.Counter()
    for new, content in enumerate(target.token_bytes):
        if content and content in known:
            found[new] = known[content][min(seen[content], len(known[content]) - 1)]
            seen[content] += 1
    return found


def nothing(source: Vocabulary, target: Vocabulary, vectors: Any = None) -> Any:
    """No new row follows from old ones: all are drawn."""
    return matrix({}, source, target)


def overlap(source: Vocabulary, target: Vocabulary, vectors: Any = None) -> Any:
    """Tokens that both vocabularies have keep their rows (the baseline of arXiv 2305.14481)."""
    rows = {new: {old: 1.0} for new, old in shared(source, target).items()}
    return matrix(rows, source, target)


def subword_mean(source: Vocabulary, target: Vocabulary, vectors: Any = None) -> Any:
    """The mean of the old tokens that a new token's bytes are cut into (Sachidananda et al., arXiv
    2109.07460, section 4), also where both vocabularies have the token.
    """
    rows = {new: _cut(source, text) for new, text in enumerate(target.token_bytes) if text}
    return matrix(rows, source, target)


def fvt(source: Vocabulary, target: Vocabulary, vectors: Any = None) -> Any:
    """Fast vocabulary transfer (Gee et al., arXiv 2402.09977, section 3): tokens that both have
    keep their rows, others get the mean of the old tokens that they are cut into.
    """
    same = shared(source, target)
    rows = {
        new: {same[new]: 1.0} if new in same else _cut(source, text)
        for new, text in enumerate(target.token_bytes)
        if text
    }
    return matrix(rows, source, target)


def _cut(source: Vocabulary, text: bytes) -> dict[int, float]:
    counts = collections.Counter(source.encode_bytes(text))
    return {old: count / counts.total() for old, count in counts.items()}
