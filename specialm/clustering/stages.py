"""Embedding and clustering of the window stores, as stages; clusters are sidecars of the stores.

Letters: N windows, D embedding, K clusters.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import embed, encoders, kmeans
from specialm.data.prepare import Prepared
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.files import save_array
from specialm.stages import Stages


@dataclass(frozen=True)
class Clusters:
    """The cluster of every window of the generic training set and of each domain's."""

    centroids_KxD: np.ndarray
    generic_N: np.ndarray
    domains: dict[str, np.ndarray]
    fingerprint: str


def read_texts(store: WindowStore, vocabulary: Vocabulary, indices: np.ndarray) -> list[str]:
    """The text of windows."""
    return [vocabulary.decode(tokens) for tokens in store.read(np.asarray(indices, np.int64))]


def cluster(config: ConfigDict, stages: Stages, prepared: Prepared) -> Clusters:
    """Embeds the windows, clusters the generic ones, assigns those of the domains.

    Raises:
      UserError: more clusters than windows (`clustering.k`), or an encoder that is not there.
    """
    settings = config.clustering
    encoder = _encoder(settings, stages, prepared)
    generic_NxD, embedded = _embed(stages, "generic", prepared.generic, prepared, encoder)
    centroids_KxD, generic_N, fingerprint = _kmeans(settings, stages, generic_NxD, embedded)
    domains = {}
    for domain, stores in prepared.domains.items():
        x_NxD, embedded = _embed(stages, domain, stores["train"], prepared, encoder)
        domains[domain] = _assign(stages, domain, x_NxD, embedded, centroids_KxD, fingerprint)
    return Clusters(centroids_KxD, generic_N, domains, fingerprint)
