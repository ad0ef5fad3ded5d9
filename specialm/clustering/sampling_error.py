"""How exactly a specialist set's histogram is known: a bootstrap over its documents.

Windows of one document are alike, so whole documents are drawn with replacement (a cluster
bootstrap: Davison & Hinkley 1997, section 3.8). What it cannot know of are clusters that no
document reached; their mass is estimated by Good and Turing. Plain NumPy in float64.
"""

from dataclasses import dataclass

import numpy as np

from specialm.clustering import weights

RESAMPLES = 200
LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class SamplingError:
    """Of a histogram over K clusters.

    Attributes:
      documents: that it was counted on.
      low_K, high_K: float64, the interval of each share.
      distance: total variation from the histogram, in its share of all mass: the mean over
        resamples.
      distance_high: the end of its one-sided interval.
      sample_low, sample_high: the interval of the effective sample, as a share of the generic
        windows.
      unseen: mass of clusters that no document reached (windows in clusters of one document alone,
        as a share of all).

    """

    documents: int
    low_K: np.ndarray
    high_K: np.ndarray
    distance: float
    distance_high: float
    sample_low: float
    sample_high: float
    unseen: float

    def to_json(self) -> dict:
        """Return plain values."""
        return {
            "documents": self.documents,
            "level": LEVEL,
            "low": self.low_K.tolist(),
            "high": self.high_K.tolist(),
            "distance": self.distance,
            "distance_high": self.distance_high,
            "effective_fraction": [self.sample_low, self.sample_high],
            "unseen": self.unseen,
        }


def histograms(
    cluster_N: np.ndarray, document_N: np.ndarray, k: int, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Return float64 [u, K]: histograms of resamples of the documents.

    Args:
      cluster_N: the cluster of each window.
      document_N: the document of each window, any numbers.
      k: clusters.
      resamples: u.
      seed: of the draws.

    """
    _, document_N = np.unique(document_N, return_inverse=True)
    count, rng = int(document_N.max()) + 1, np.random.default_rng([seed, 7])
    found_uxK = np.empty((resamples, k))
    for row in range(resamples):
        times_d = np.bincount(rng.integers(0, count, count), minlength=count)
        found_uxK[row] = np.bincount(cluster_N, times_d[document_N], minlength=k)
    return found_uxK / found_uxK.sum(axis=1, keepdims=True)


def estimate(
    report: weights.WeightReport, cluster_N: np.ndarray, document_N: np.ndarray, seed: int = 0
) -> SamplingError | None:
    """Return the sampling error of a domain's histogram and of what follows from it; None from one
    document, which says nothing of others.

    Args:
      report: the weights of the domain.
      cluster_N: the cluster of each of its windows.
      document_N: the document of each.
      seed: of the bootstrap.

    """
    k = len(report.weights_K)
    if len(np.unique(document_N)) < 2:
        return None
    resampled_uxK = histograms(cluster_N, document_N, k, seed=seed)
    distance_u = 0.5 * np.abs(resampled_uxK - report.specialist_K).sum(axis=1)
    total = report.specialist_counts_K.sum()
    sample_u = [
        report.of_another(histogram_K * total).effective_fraction
        for histogram_K in resampled_uxK
        if report.can_draw(histogram_K)
    ]
    tail = (1 - LEVEL) / 2
    low_K, high_K = np.quantile(resampled_uxK, [tail, 1 - tail], axis=0)
    sample_low, sample_high = np.quantile(sample_u, [tail, 1 - tail])
    return SamplingError(
        len(np.unique(document_N)),
        low_K,
        high_K,
        float(distance_u.mean()),
        float(np.quantile(distance_u, LEVEL)),
        float(sample_low),
        float(sample_high),
        _unseen(cluster_N, document_N, k),
    )


def _unseen(cluster_N: np.ndarray, document_N: np.ndarray, k: int) -> float:
    """Good and Turing's estimate, of documents instead of words."""
    pairs = np.unique(np.stack([cluster_N, document_N]), axis=1)
    documents_K = np.bincount(pairs[0], minlength=k)
    return float((documents_K == 1)[cluster_N].mean())
