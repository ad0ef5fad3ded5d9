"""How likely held-out documents of a specialist set are under the draws that the others lead to.

By this the depth of a tree of clusters is chosen, or the number of flat ones: deeper clusters
describe the set more closely, but fewer of its documents say how often each is, and under a cap on
repetition little text is left to draw from. Plain NumPy in float64.
"""

import numpy as np

from specialm.clustering import weights

FOLDS = 5


def bits(
    report: weights.WeightReport, cluster_N: np.ndarray, document_N: np.ndarray, seed: int = 0
) -> float:
    """Return bits per window that the draws need for a held-out one; uniform ones need 0.

    In each of `FOLDS` parts of the documents, or as many as there are, the windows are scored by
    the draws, under the cap, that the documents of the other parts lead to. The density of a window
    of cluster c is drawn_c / generic_c, so that clusters of all sizes compare. One document more
    than the D known ones is supposed to be like the generic text (ours): 1 / (D + 1) of every
    density is 1.

    Args:
      report: the weights of the set.
      cluster_N: the cluster of each of its windows.
      document_N: the document of each.
      seed: of the parts.

    """
    _, document_N = np.unique(document_N, return_inverse=True)
    count, total = int(document_N.max()) + 1, 0.0
    folds = min(FOLDS, count)
    fold_N = (np.random.default_rng([seed, 11]).permutation(count) % folds)[document_N]
    for fold in range(folds if folds > 1 else 0):
        known = fold_N != fold
        density_K = _density(report, np.bincount(cluster_N[known], minlength=len(report.weights_K)))
        rest = 1 / (1 + len(np.unique(document_N[known])))
        density_N = (1 - rest) * density_K[cluster_N[~known]] + rest
        total -= float(np.log2(density_N).sum())
    return total / len(cluster_N)


def _density(report: weights.WeightReport, counts_K: np.ndarray) -> np.ndarray:
    """float64 [K]: how often windows are drawn against uniform draws, for another set."""
    if not report.can_draw(counts_K):
        return np.ones(len(counts_K))  # nothing is known
    drawn_K = report.of_another(counts_K).drawn_K
    return drawn_K / np.where(report.generic_K > 0, report.generic_K, 1.0)
