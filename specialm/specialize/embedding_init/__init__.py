"""Embeddings of a new vocabulary out of those of an old one, before anything is trained.

A rule is a function (source, target, vectors) -> weights [V', V], sparse: a new row is the sum of
old rows with these weights. Rows without weights are drawn from a normal distribution with the mean
and the standard deviation of the old ones, dimension by dimension. What stands for no text (the end
of a document, the mark of a hidden token) stands for the same in both, whatever the rule.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from specialm.data.vocabularies import Vocabulary
from specialm.specialize.embedding_init import pieces, similar
from specialm.specialize.embedding_init.similar import Vectors

__all__ = ["RULES", "Rule", "Vectors", "embeddings", "weights"]

TOKENS, WORDS = "tokens", "words"  # what a rule needs vectors of


@dataclass(frozen=True)
class Rule:
    """One way to a new vocabulary's embeddings."""

    # (source vocabulary, target vocabulary, vectors) -> weights [V', V], a sparse matrix
    weights: Callable[[Vocabulary, Vocabulary, Vectors | None], Any]
    needs: str = ""  # TOKENS: vectors of the target's; WORDS: of both, in one space


# specialm adapt --init
RULES = {
    "random": Rule(pieces.nothing),
    "overlap": Rule(pieces.overlap),
    "subword_mean": Rule(pieces.subword_mean),
    "fvt": Rule(pieces.fvt),
    "focus": Rule(similar.focus, TOKENS),
    "omp": Rule(similar.omp, TOKENS),
    "wechsel": Rule(similar.wechsel, WORDS),
}


def weights(
    rule: str, source: Vocabulary, target: Vocabulary, vectors: Vectors | None = None
) -> Any:
    """The weights [V', V] of a rule, with those of what stands for no text put in; a CSR matrix.

    Args:
      rule: one of RULES.
      vectors: see `Rule.needs`.
    """
    found = RULES[rule].weights(source, target, vectors).tolil()
    for new, old in pieces.roles(source, target).items():
        found.rows[new], found.data[new] = [old], [1.0]
    return found.tocsr()


def embeddings(weights: Any, source_VxD: np.ndarray, seed: int) -> np.ndarray:
    """float32 [V', D]: the new rows.

    Args:
      weights: [V', V], sparse.
      source_VxD: the old embeddings.
      seed: of the rows that are drawn.
    """
    source_VxD = np.asarray(source_VxD, np.float64)
    made_VxD = np.asarray(weights @ source_VxD)
    drawn_N = np.flatnonzero(np.diff(weights.indptr) == 0)
    rng = np.random.default_rng(seed)
    shape = (len(drawn_N), source_VxD.shape[1])
    made_VxD[drawn_N] = rng.normal(source_VxD.mean(0), source_VxD.std(0), shape)
    return made_VxD.astype(np.float32)
