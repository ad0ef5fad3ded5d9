"""Vectors of tokens and words by what stands near them: the vectors that rules compare.

Positive pointwise mutual information of pairs at most WINDOW apart, and its truncated singular
value decomposition, U sqrt(S) (Levy and Goldberg 2014; Levy et al. 2015, section 3.3): what
word2vec's factors are of, without an optimiser. The papers of the rules take fastText's.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary

VERSION = 2  # of what stages that have vectors depend on
WINDOW = 5
DIMENSIONS = 100
LEAST = 2  # occurrences of what gets a vector
CHUNK = 1 << 20  # ids whose pairs are counted at once
WORDS = 50_000  # the most frequent ones, at most


def of_ids(rows: Iterable[np.ndarray], size: int) -> np.ndarray:
    """float64 [size, D]: a vector of each id, zeros for those that come less than LEAST times.

    Args:
      rows: int, texts or parts of texts; pairs are counted inside of each.
      size: ids are below it.
    """
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    counts, pairs_VxV = np.zeros(size, np.int64), sparse.csr_matrix((size, size))
    for part in _chunks(rows):
        ids_N, of_N = np.concatenate(part), np.repeat(np.arange(len(part)), list(map(len, part)))
        counts += np.bincount(ids_N, minlength=size)
        for apart in range(1, WINDOW + 1):
            inside_n = np.flatnonzero(of_N[:-apart] == of_N[apart:])
            places = (ids_N[inside_n], ids_N[inside_n + apart])
            pairs_VxV += sparse.csr_matrix((np.ones(len(inside_n)), places), shape=(size, size))
    information_VxV = ppmi(pairs_VxV + pairs_VxV.T, counts >= LEAST)
    dimensions = min(DIMENSIONS, size - 1)
    left_VxD, values_D, _ = randomized_svd(information_VxV, dimensions, random_state=0)
    left_VxD[np.asarray(information_VxV.sum(1)).ravel() == 0] = 0  # what rounding leaves there
    return left_VxD * np.sqrt(values_D)


def _chunks(rows: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Many rows at a time: adding to a large matrix takes as long for few pairs as for many."""
    part: list[np.ndarray] = []
    count = 0
    for row_L in rows:
        part.append(row_L)
        count += len(row_L)
        if count >= CHUNK:
            yield part
            part, count = [], 0
    if part:
        yield part


def ppmi(pairs_VxV: Any, kept_V: np.ndarray) -> Any:
    """max(0, log(#(a, b) #(all) / (#(a) #(b)))) of every pair that occurs, sparse.

    Args:
      pairs_VxV: how often a and b stand near each other, a symmetric sparse matrix.
      kept_V: bool, what is counted at all.
    """
    from scipy import sparse

    only = sparse.diags(kept_V.astype(np.float64))
    found = (only @ pairs_VxV @ only).tocoo()
    of_V = np.asarray(found.sum(1)).ravel()
    information = np.log(found.data * of_V.sum() / (of_V[found.row] * of_V[found.col]))
    values = (np.maximum(information, 0), (found.row, found.col))
    return sparse.csr_matrix(values, shape=found.shape)


def of_words(texts: Sequence[str]) -> tuple[dict[str, int], np.ndarray]:
    """({word: how often it comes}, float64 [N, D]) of the most frequent words of texts, in this
    order; a word is what stands between spaces, in small letters.
    """
    counts = collections.Counter(word for text in texts for word in text.lower().split())
    kept = {word: n for word, n in counts.most_common(WORDS) if n >= LEAST}
    number = {word: i for i, word in enumerate(kept)}
    rows = (
        np.array([number[word] for word in text.lower().split() if word in number], np.int64)
        for text in texts
    )
    return kept, of_ids(rows, len(kept)) if len(kept) > 1 else np.zeros((len(kept), 1))


def of_pieces(vocabulary: Vocabulary, words: dict[str, int], vectors_NxD: np.ndarray) -> np.ndarray:
    """float64 [V, D]: of each token the mean of the words that have it, weighted by how often they
    come (arXiv 2112.06598, section 3.1, for vectors without subwords).
    """
    from scipy import sparse

    entries = [
        (token, i, count)
        for i, (word, count) in enumerate(words.items())
        for token in set(vocabulary.encode([f" {word}"])[0])
    ]
    tokens, numbers, counts = np.array(entries, np.int64).reshape(-1, 3).T
    shape = (vocabulary.size, len(words))
    of_VxN = sparse.csr_matrix((counts.astype(np.float64), (tokens, numbers)), shape=shape)
    totals_V = np.asarray(of_VxN.sum(1)).ravel()
    return np.asarray(of_VxN @ vectors_NxD) / np.maximum(totals_V, 1)[:, None]


def aligned(
    source_NxD: np.ndarray, target_NxD: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> np.ndarray:
    """[D, D], orthogonal: what takes target vectors to those of the source words that they are
    paired with, by least squares over unit vectors (Schoenemann 1966; arXiv 2112.06598, section
    3.1).

    Args:
      pairs: (number of a source word, number of a target word).
    """
    from specialm.specialize.embedding_init.similar import normed

    old, new = np.array(pairs, np.int64).reshape(-1, 2).T
    left, _, right = np.linalg.svd(normed(target_NxD[new]).T @ normed(source_NxD[old]))
    return left @ right


def read_dictionary(
    path: Any, source: dict[str, int], target: dict[str, int]
) -> list[tuple[int, int]]:
    """The pairs of a bilingual dictionary both of whose words have vectors.

    Args:
      path: lines SOURCE_WORD<TAB>TARGET_WORD, or with a space.
      source, target: words with vectors, in their order.

    Raises:
      UserError: it cannot be read, or none of its pairs is known.
    """
    try:
        lines = open(path, encoding="utf-8").read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--dictionary={path}: cannot be read ({error}).") from error
    old = {word: i for i, word in enumerate(source)}
    new = {word: i for i, word in enumerate(target)}
    words = (line.lower().split("\t" if "\t" in line else None) for line in lines)
    pairs = [(pair[0].strip(), pair[1].strip()) for pair in words if len(pair) == 2]
    found = [(old[a], new[b]) for a, b in pairs if a in old and b in new]
    if not found:
        raise UserError(
            f"--dictionary={path}: none of its {len(pairs):,} pairs has a word of the source text "
            "and one of the target text; give lines SOURCE_WORD<TAB>TARGET_WORD of the two "
            "languages, in this order."
        )
    return found
