"""`specialm.ImportanceWeights`: which texts of a generic corpus are like a specialist's, in the way
of scikit-learn.

>>> import specialm
>>> generic = [f"{word} and {word}s, number {n}" for n in range(40) for word in ("cat", "ship")]
>>> specialist = ["a ship and more ships", "the ships and the ship", "the cat and a ship"]
>>> weights = specialm.ImportanceWeights(k=2, dim=2).fit(generic, specialist)
>>> weights.weights_.shape  # of each generic text; their mean is 1
(80,)
>>> bool(weights.weights_[1] > 1 > weights.weights_[0])
True
>>> drawn = weights.sample(6, seed=0)  # indices of generic texts
>>> sum("ship" in generic[i] for i in drawn) >= 3
True
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator

from specialm.clustering import encoders, kmeans
from specialm.clustering import weights as weights_lib
from specialm.clustering.repetition import Budget
from specialm.common.errors import UserError
from specialm.data.documents import Counts
from specialm.data.sampler import Sampler
from specialm.data.sources import open_source, resolve_source

BYTES = 4  # of a token, about, where the tokens of texts are not given
Texts = Sequence[str] | str | Path


class ImportanceWeights(BaseEstimator):
    """Importance weights of texts by clusters, SLM-is of arXiv 2402.01093, section 2.

    Texts are embedded, the generic ones clustered by k-means, and a generic text x of cluster c
    weighs P(c | specialist) / P(c | generic). `fit` computes what the pipeline computes of its
    windows (`specialm weights`); here every text is one window, however long it is.

    Args:
      k: clusters.
      encoder: "tfidf_svd", fitted on the generic texts, or "minilm" (needs its files).
      dim: tfidf_svd: dimensions of a vector.
      encoder_path: minilm: the folder with its weights; "" looks in the usual places.
      smoothing: 0 to 1, of the specialist's histogram towards the generic one.
      power: 0 to 1, the weights are raised to it.
      max_repetitions: expected draws of a text, at most; 0 for no cap.
      budget: tokens of the training that is planned, for the cap; 0 for none (and no cap).
      seed: of the encoder's fit and the clusters.

    Attributes:
      weights_: float64 [N], of each generic text; the mean is 1.
      histogram_: float64 [K], the specialist's share in each cluster, as counted.
      generic_histogram_: float64 [K], that of the generic texts.
      cluster_weights_: float64 [K].
      labels_: int32 [N], the cluster of each generic text.
      cluster_centers_: float32 [K, D].
      encoder_: `encoder_.encode(texts)` gives float32 [d, D], rows of unit length.
      effective_sample_size_: (sum w)^2 / sum w^2 over the generic texts.
      tokens_per_text_: mean of the generic texts.
      report_: `specialm.clustering.weights.WeightReport`, with all else; `print(report_.table())`.
    """

    def __init__(
        self,
        k: int = 64,
        encoder: str = "tfidf_svd",
        dim: int = 128,
        encoder_path: str = "",
        smoothing: float = 0.0,
        power: float = 1.0,
        max_repetitions: float = 0.0,
        budget: int = 0,
        seed: int = 0,
    ):
        self.k = k
        self.encoder = encoder
        self.dim = dim
        self.encoder_path = encoder_path
        self.smoothing = smoothing
        self.power = power
        self.max_repetitions = max_repetitions
        self.budget = budget
        self.seed = seed

    def fit(
        self, generic: Texts, specialist: Texts, tokens: Sequence[int] | None = None
    ) -> "ImportanceWeights":
        """Weigh the generic texts; returns self.

        Args:
          generic, specialist: texts, or a source of documents as in `data.generic`: a folder, a
            file, "jsonl:PATH" and so on.
          tokens: of each generic text; None counts 4 bytes of UTF-8 as one.

        Raises:
          UserError: no texts, a parameter out of range, more clusters than texts, or specialist
            texts in clusters that have no generic one.
        """
        if self.max_repetitions < 0 or self.budget < 0:
            raise UserError(
                f"ImportanceWeights: max_repetitions={self.max_repetitions} and "
                f"budget={self.budget} must not be negative."
            )
        texts, special = _read(generic, "generic"), _read(specialist, "specialist")
        if not 1 <= self.k <= len(texts):
            raise UserError(
                f"ImportanceWeights: k={self.k}: must be from 1 to {len(texts)}, the number of "
                "generic texts."
            )
        self._set_tokens(texts, tokens)
        sample = encoders.sample_texts(lambda start, stop: texts[start:stop], len(texts))
        path = self.encoder_path or None
        self.encoder_ = encoders.make_encoder(
            self.encoder, path, self.seed, self.dim, sample=sample
        )
        generic_NxD = self.encoder_.encode(texts)
        self.cluster_centers_ = kmeans.fit(generic_NxD, self.k, self.seed).centroids_KxD
        self.labels_ = kmeans.assign(generic_NxD, self.cluster_centers_)[0]
        self._generic_counts_K = weights_lib.counts(self.labels_, self.k)
        self._specialist_counts_K = weights_lib.counts(self._clusters(special), self.k)
        self.report_ = self._report(self.budget)
        self.histogram_ = self.report_.specialist_K
        self.generic_histogram_ = self.report_.generic_K
        shares_K = np.where(self._generic_counts_K > 0, self.generic_histogram_, 1.0)
        self.cluster_weights_ = self.report_.drawn_K / shares_K
        self.weights_ = self.cluster_weights_[self.labels_]
        self.effective_sample_size_ = self.report_.effective_sample_size
        return self

    def predict(self, texts: Texts) -> np.ndarray:
        """float64 [d]: the weights that other texts would have, by their clusters."""
        return self.cluster_weights_[self._clusters(_read(texts, "texts"))]

    def repetitions(self, tokens: int) -> weights_lib.Repetitions:
        """How often a training of so many tokens sees a text: `.mean`, `.most`, and how many it
        sees at all, `.distinct_windows`. The cap is that of this many tokens.
        """
        return self._report(tokens).repetitions

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """int64 [n]: indices of generic texts, drawn as training draws windows: a cluster by its
        probability, inside it every text once before any comes again.
        """
        sampler = Sampler(
            len(self.labels_), 1, seed, self.labels_, self.report_.drawn_K, epoch=self.report_.epoch
        )
        return sampler.draws(0, n)[0]

    def _set_tokens(self, texts: list[str], tokens: Sequence[int] | None) -> None:
        if tokens is not None and len(tokens) != len(texts):
            raise UserError(
                f"ImportanceWeights.fit: {len(tokens)} numbers of tokens for {len(texts)} texts."
            )
        counted = [len(text.encode()) / BYTES for text in texts] if tokens is None else tokens
        self.tokens_per_text_ = max(float(np.mean(counted)), 1.0)

    def _clusters(self, texts: list[str]) -> np.ndarray:
        return kmeans.assign(self.encoder_.encode(texts), self.cluster_centers_)[0]

    def _report(self, tokens: int) -> weights_lib.WeightReport:
        return weights_lib.report(
            "specialist",
            self._generic_counts_K,
            self._specialist_counts_K,
            self.smoothing,
            math.ceil(tokens / self.tokens_per_text_),
            self.power,
            Budget(self.max_repetitions, centroids_KxD=self.cluster_centers_),
        )


def _read(given: Texts, what: str) -> list[str]:
    """The texts, or those of a source.

    Raises:
      UserError: there are none.
    """
    if isinstance(given, str | Path):
        source = open_source(resolve_source(str(given))[1])
        texts = [document.text for document in source.documents(Counts())]
    else:
        texts = list(given)
    wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
    if wrong:
        raise UserError(f"ImportanceWeights: {what}: holds {wrong[0]}, not texts.")
    if not texts:
        raise UserError(f"ImportanceWeights: {what}: there are no texts.")
    return texts
