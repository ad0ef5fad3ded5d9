"""Weights of a domain that is only described: `specialm weights --topics="contract law; courts"`.

Each topic is embedded by the clusters' own encoder, and the generic windows nearest to it stand for
the text that is not there. What they cannot say is what such text has that the generic text lacks.
"""

import math
from dataclasses import dataclass

import numpy as np

from specialm.clustering import sampling_error
from specialm.clustering import weights as weights_lib
from specialm.clustering.clusters import read_texts
from specialm.clustering.sampling_error import SamplingError
from specialm.clustering.tfidf_svd import TfidfSvd
from specialm.clustering.weights import WeightReport
from specialm.common.errors import UserError
from specialm.data import scripts
from specialm.workflows import pipeline
from specialm.workflows.pipeline import Run

NEAREST, SHARE = 200, 0.02  # windows that stand for a topic, and of the generic ones at most
ROWS = 1 << 16  # embeddings that are compared at a time


@dataclass(frozen=True)
class Described:
    """What a list of topics comes to.

    Attributes:
      report: the weights.
      error: how far another list of as many topics would lie, None of one topic alone.
      nearest: {topic: the text of the window nearest to it}.
    """

    report: WeightReport
    error: SamplingError | None
    nearest: dict[str, str]

    def lines(self) -> list[str]:
        """For a terminal, after the report's table."""
        said = [f"{topic}: {' '.join(text.split())[:150]}" for topic, text in self.nearest.items()]
        if self.error is None:
            return [*said, "one topic alone does not say how exactly its histogram is known"]
        return [
            *said,
            f"{len(self.nearest)} topics; another list of as many would have a histogram "
            f"{self.error.distance:.0%} off (at most {self.error.distance_high:.0%}), and an "
            f"effective sample of {self.error.sample_low:.1%} to {self.error.sample_high:.1%} of "
            "the generic text. A handful of real documents (--source) says more",
        ]


def parse(text: str) -> list[str]:
    """The topics of `--topics`, between semicolons.

    Raises:
      UserError: there is none, or one twice.
    """
    topics = [" ".join(topic.split()) for topic in text.split(";") if topic.strip()]
    if not topics or len(set(topics)) < len(topics):
        raise UserError(
            f'--topics={text}: give different topics, as in "contract law; court opinions".'
        )
    return topics


def describe(run: Run, topics: list[str]) -> Described:
    """The weights of a domain that these topics describe.

    Args:
      run: of the generic text; no domain is needed.
      topics: a few words each.

    Raises:
      UserError: the encoder knows no word of a topic.
    """
    clusters, clustering = run.clusters(), run.config.clustering
    assert clusters.encoder is not None
    if isinstance(clusters.encoder, TfidfSvd):
        _check_words(clusters.encoder, topics)
    window_QxM = _nearest(
        clusters.generic_NxD, np.asarray(clusters.encoder.encode(topics, progress=False))
    )
    cluster_N = clusters.generic_N[window_QxM].reshape(-1)
    topic_N = np.repeat(np.arange(len(topics)), window_QxM.shape[1])
    k = len(clusters.centroids_KxD)
    cap = clustering.max_repetitions
    budget = pipeline.repetition_budget(clusters, 0.0 if isinstance(cap, str) else cap, 0.0)
    report = weights_lib.report(
        "; ".join(topics),
        weights_lib.counts(clusters.generic_N, k),
        weights_lib.counts(cluster_N, k),
        clustering.smoothing,
        pipeline.planned_windows(run.config),
        clustering.power,
        budget,
        pipeline.aim(clustering, clusters),
    )
    error = sampling_error.estimate(report, cluster_N, topic_N, clustering.seed)
    texts = read_texts(run.generic, run.prepared.vocabulary, window_QxM[:, 0])
    return Described(report, error, dict(zip(topics, texts, strict=True)))


def _check_words(encoder: TfidfSvd, topics: list[str]) -> None:
    known = set(encoder.terms)
    for topic in topics:
        if not known & set(scripts.terms(topic)):
            raise UserError(
                f"--topics: none of the words of {topic!r} is in the generic text (tfidf_svd knows "
                "only those); use other words, or clustering.encoder=minilm."
            )


def _nearest(generic_NxD: np.ndarray, topic_QxD: np.ndarray) -> np.ndarray:
    """int64 [Q, M]: for each topic its nearest windows, by the cosine; rows have unit length."""
    count = max(1, min(NEAREST, math.ceil(SHARE * len(generic_NxD))))
    similar_QxN = np.concatenate(
        [
            topic_QxD @ np.asarray(generic_NxD[start : start + ROWS]).T
            for start in range(0, len(generic_NxD), ROWS)
        ],
        axis=1,
    )
    return np.argsort(-similar_QxN, axis=1, kind="stable")[:, :count]
