"""Rules that look at how tokens are used: new ones are made of old ones that are used alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from specialm.data.vocabularies import Vocabulary
from specialm.specialize.embedding_init import pieces

ROWS = 256  # new tokens at a time
NUMBERS_AN_ATOM = 32  # of a vector; 64 atoms of 2,048 numbers (arXiv 2506.06607, section 4)
NEIGHBOURS, TEMPERATURE = 10, 0.1  # arXiv 2112.06598, section 4.2
SMALL = 1e-9


@dataclass(frozen=True)
class Vectors:
    """How tokens are used; a row of zeros for a token that the text has not."""

    target_VxD: np.ndarray  # of the target vocabulary
    source_VxD: np.ndarray | None = None  # of the source vocabulary, in the same space


def focus(source: Vocabulary, target: Vocabulary, vectors: Vectors | None) -> Any:
    """FOCUS (Dobler and de Melo, arXiv 2305.14481, section 2.2): tokens that both have keep their
    rows; another is the sum of these rows, weighted by the sparsemax of its cosines with them.
    """
    assert vectors is not None
    same = pieces.shared(source, target)
    rows = {new: {old: 1.0} for new, old in same.items()}
    anchors_N, others = _known(vectors, same), _unknown(vectors, target, same)
    unit_VxD = normed(vectors.target_VxD)
    for part_M in _parts(others if len(anchors_N) else others[:0]):
        weights_MxN = sparsemax(unit_VxD[part_M] @ unit_VxD[anchors_N].T)
        rows |= _weighted(part_M, anchors_N, weights_MxN, same)
    return pieces.matrix(rows, source, target)


def omp(source: Vocabulary, target: Vocabulary, vectors: Vectors | None) -> Any:
    """Orthogonal matching pursuit (Goddard and Neto, arXiv 2506.06607, section 3): a new token's
    vector as the best sum of a few vectors of tokens that both have; its row is the sum of their
    rows with the same coefficients.

    There the vectors are another model's embeddings, here those of the target text. Our reading:
    they have length 1, as their lengths say how often a token comes; and as many atoms for their
    numbers as there. With 64 of 100 numbers rows are worse than random ones
    (results/README.md).
    """
    assert vectors is not None
    same = pieces.shared(source, target)
    rows = {new: {old: 1.0} for new, old in same.items()}
    anchors_N, others = _known(vectors, same), _unknown(vectors, target, same)
    unit_VxD = normed(vectors.target_VxD)
    atoms = max(1, round(unit_VxD.shape[1] / NUMBERS_AN_ATOM))
    for part_M in _parts(others if len(anchors_N) else others[:0]):
        weights_MxN = pursuit(unit_VxD[part_M], unit_VxD[anchors_N], atoms)
        rows |= _weighted(part_M, anchors_N, weights_MxN, same)
    return pieces.matrix(rows, source, target)


def wechsel(source: Vocabulary, target: Vocabulary, vectors: Vectors | None) -> Any:
    """WECHSEL (Minixhofer et al., arXiv 2112.06598, section 3.2): the NEIGHBOURS old tokens whose
    vectors are nearest by cosine, weighted by the softmax of cosine / TEMPERATURE. Tokens that both
    have get no other treatment.
    """
    assert vectors is not None and vectors.source_VxD is not None
    old_N = np.flatnonzero(np.any(vectors.source_VxD, 1))
    new_N = np.flatnonzero(np.any(vectors.target_VxD, 1))
    old_NxD, new_NxD = normed(vectors.source_VxD[old_N]), normed(vectors.target_VxD)
    rows: dict[int, dict[int, float]] = {}
    count = min(NEIGHBOURS, len(old_N))
    for part_M in _parts(new_N if count else new_N[:0]):
        cosines_MxN = new_NxD[part_M] @ old_NxD.T
        near_Mxa = np.argpartition(-cosines_MxN, count - 1, axis=1)[:, :count]
        scores_Mxa = np.take_along_axis(cosines_MxN, near_Mxa, 1) / TEMPERATURE
        weights_Mxa = np.exp(scores_Mxa - scores_Mxa.max(1, keepdims=True))
        weights_Mxa /= weights_Mxa.sum(1, keepdims=True)
        for new, near_a, weights_a in zip(part_M, near_Mxa, weights_Mxa, strict=True):
            rows[int(new)] = dict(zip(old_N[near_a].tolist(), weights_a.tolist(), strict=True))
    return pieces.matrix(rows, source, target)


def _known(vectors: Vectors, same: dict[int, int]) -> np.ndarray:
    """The new ids of tokens that both have and whose use is known."""
    return np.array([new for new in same if np.any(vectors.target_VxD[new])], np.int64)


def _unknown(vectors: Vectors, target: Vocabulary, same: dict[int, int]) -> np.ndarray:
    """The ids of the others whose use is known."""
    there_V = np.any(vectors.target_VxD, 1)
    text_V = np.array([bool(content) for content in target.token_bytes])
    return np.array([i for i in np.flatnonzero(there_V & text_V) if i not in same], np.int64)


def _parts(ids_N: np.ndarray) -> list[np.ndarray]:
    return [ids_N[i : i + ROWS] for i in range(0, len(ids_N), ROWS)]


def _weighted(
    ids_M: np.ndarray, anchors_N: np.ndarray, weights_MxN: np.ndarray, same: dict[int, int]
) -> dict[int, dict[int, float]]:
    rows: dict[int, dict[int, float]] = {}
    for new, weights_N in zip(ids_M.tolist(), weights_MxN, strict=True):
        row = rows.setdefault(new, {})
        for i in np.flatnonzero(weights_N):
            old = same[int(anchors_N[i])]
            row[old] = row.get(old, 0.0) + float(weights_N[i])
    return rows


def normed(rows_NxD: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    return rows_NxD / np.maximum(np.linalg.norm(rows_NxD, axis=1, keepdims=True), SMALL)


def sparsemax(scores_MxN: np.ndarray) -> np.ndarray:
    """[M, N]: the nearest point of the simplex to each row (Martins and Astudillo, arXiv
    1602.02068, algorithm 1).
    """
    sorted_MxN = -np.sort(-scores_MxN, axis=1)
    sums_MxN = np.cumsum(sorted_MxN, axis=1)
    count_N = np.arange(1, scores_MxN.shape[1] + 1)
    support_M = np.sum(1 + count_N * sorted_MxN > sums_MxN, axis=1)
    last_M = np.take_along_axis(sums_MxN, support_M[:, None] - 1, 1)[:, 0]
    return np.maximum(scores_MxN - ((last_M - 1) / support_M)[:, None], 0)


def pursuit(wanted_MxD: np.ndarray, atoms_NxD: np.ndarray, count: int) -> np.ndarray:
    """[M, N]: coefficients, at most `count` of them not 0 in a row, with which the atoms add up to
    the wanted vectors. In each turn the atom is added that the rest is most along, and all
    coefficients are fitted anew by least squares (Pati et al. 1993).
    """
    wanted_MxD = np.asarray(wanted_MxD, np.float64)
    unit_NxD = normed(np.asarray(atoms_NxD, np.float64))
    rows = np.arange(len(wanted_MxD))
    rest_MxD, found_MxN = wanted_MxD, np.zeros((len(wanted_MxD), len(atoms_NxD)))
    chosen_MxR = np.zeros((len(wanted_MxD), 0), np.int64)
    done_M = np.zeros(len(wanted_MxD), bool)
    for _ in range(min(count, *atoms_NxD.shape)):
        along_MxN = np.abs(rest_MxD @ unit_NxD.T)
        if chosen_MxR.shape[1]:
            along_MxN[rows[:, None], chosen_MxR] = 0
        done_M |= along_MxN.max(1) < SMALL * np.linalg.norm(wanted_MxD, axis=1)
        if done_M.all():
            break
        chosen_MxR = np.column_stack([chosen_MxR, along_MxN.argmax(1)])
        basis_MxRxD = unit_NxD[chosen_MxR]
        gram_MxRxR = basis_MxRxD @ basis_MxRxD.transpose(0, 2, 1)
        gram_MxRxR += SMALL * np.eye(chosen_MxR.shape[1])  # atoms that are nearly the same
        products_MxRx1 = basis_MxRxD @ wanted_MxD[:, :, None]
        fit_MxR = np.linalg.solve(gram_MxRxR, products_MxRx1)[..., 0]
        rest_MxD = np.where(
            done_M[:, None], 0, wanted_MxD - np.einsum("MR,MRD->MD", fit_MxR, basis_MxRxD)
        )
        new_MxN = np.zeros_like(found_MxN)
        new_MxN[rows[:, None], chosen_MxR] = fit_MxR
        found_MxN = np.where(done_M[:, None], found_MxN, new_MxN)
    lengths_N = np.maximum(np.linalg.norm(atoms_NxD, axis=1), SMALL)
    return found_MxN / lengths_N
