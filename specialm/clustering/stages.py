"""Embedding and clustering of the window stores, as stages; clusters are sidecars of the stores.

Letters: N windows, D embedding, K clusters.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import embed, encoders, kmeans
from specialm.data.prepare import Prepared
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary
from specialm.errors import UserError
from specialm.files import save_array
from specialm.stages import Stages, digest


@dataclass(frozen=True)
class Clusters:
    """The cluster of every generic training window and of each domain's specialist windows (the
    training ones in use, in the order of `Prepared.specialist_indices`)."""

    centroids_KxD: np.ndarray
    generic_NxD: np.ndarray  # embeddings, memory-mapped
    generic_N: np.ndarray
    domains: dict[str, np.ndarray]
    fingerprint: str

    def typical(self, cluster: int, count: int) -> np.ndarray:
        """The generic windows of a cluster that lie nearest to its centroid."""
        members = np.flatnonzero(self.generic_N == cluster)
        away = np.linalg.norm(self.generic_NxD[members] - self.centroids_KxD[cluster], axis=1)
        return members[np.argsort(away, kind="stable")[:count]]


def read_texts(store: WindowStore, vocabulary: Vocabulary, indices: np.ndarray) -> list[str]:
    """The text of windows."""
    return [vocabulary.decode(tokens) for tokens in store.read(np.asarray(indices, np.int64))]


def cluster(config: ConfigDict, stages: Stages, prepared: Prepared, k: int,
            setting: str = "clustering.k") -> Clusters:
    """Embeds the windows, clusters the generic ones, assigns those of the domains.

    Args:
      k: number of clusters.
      setting: where k comes from, for the error.

    Raises:
      UserError: more clusters than windows, or an encoder that is not there.
    """
    if k > len(prepared.generic):
        raise UserError(f"{setting}={k}: there are only {len(prepared.generic)} generic windows; "
                        "use fewer clusters or more text.")
    settings = config.clustering
    encoder = _encoder(settings, stages, prepared)
    every = np.arange(len(prepared.generic))
    generic_NxD, embedded = _embed(stages, "generic", prepared.generic, every, prepared, encoder)
    centroids_KxD, generic_N, fingerprint = _kmeans(settings, k, stages, generic_NxD, embedded)
    domains = {}
    for domain, stores in prepared.domains.items():
        used = prepared.specialist_indices(domain, config.data)["train"]
        x_NxD, embedded = _embed(stages, domain, stores["train"], used, prepared, encoder)
        domains[domain] = _assign(stages, domain, x_NxD, embedded, centroids_KxD, fingerprint)
    return Clusters(centroids_KxD, generic_NxD, generic_N, domains, fingerprint)


def _encoder(settings: ConfigDict, stages: Stages, prepared: Prepared) -> encoders.Encoder:
    """The encoder; one that is fitted is fitted on generic windows, as a stage of its own."""
    if settings.encoder == "minilm":
        return encoders.make_encoder("minilm", settings.encoder_path or None,
                                     max_tokens=settings.max_tokens)
    store = prepared.generic
    inputs = {"encoder": settings.encoder, "dim": settings.dim, "seed": settings.seed,
              "store": store.fingerprint}

    def work(path: Path) -> dict:
        sample = encoders.sample_texts(
            _reader(store, prepared.vocabulary, np.arange(len(store))), len(store),
            seed=settings.seed)
        encoder = encoders.make_encoder(settings.encoder, seed=settings.seed, dim=settings.dim,
                                        sample=sample)
        encoder.save(path / "encoder.npz")
        return {"texts": len(sample)}

    stage = stages.run("encoder", inputs, work)
    return encoders.make_encoder(settings.encoder, stage.path / "encoder.npz")


def _reader(store: WindowStore, vocabulary: Vocabulary, indices: np.ndarray):
    return lambda start, stop: read_texts(store, vocabulary, indices[start:stop])


def _embed(stages: Stages, name: str, store: WindowStore, indices: np.ndarray, prepared: Prepared,
           encoder):
    """(embeddings [N, D], key) of these windows of a store."""
    inputs = {"store": store.fingerprint, "encoder": encoder.fingerprint}
    if len(indices) < len(store):
        inputs["windows"] = digest(indices)

    def work(path: Path) -> dict:
        made = embed.embed(_reader(store, prepared.vocabulary, indices), len(indices), encoder,
                           path / "embeddings.npy", key=store.fingerprint)
        return {"windows": len(made), "dim": encoder.dim}

    stage = stages.run(f"embeddings/{name}", inputs, work)
    return np.load(stage.path / "embeddings.npy", mmap_mode="r"), stage.fingerprint


def _kmeans(settings: ConfigDict, k: int, stages: Stages, x_NxD: np.ndarray, embedded: str):
    """(centroids, cluster of each generic window, fingerprint)."""
    inputs = {"embeddings": embedded, "k": k, "method": settings.method,
              "iterations": settings.iterations, "seed": settings.seed}

    def work(path: Path) -> dict:
        fitted = kmeans.fit(x_NxD, k, settings.seed, method=settings.method,
                            iterations=settings.iterations)
        cluster_N, _ = kmeans.assign(x_NxD, fitted.centroids_KxD)
        save_array(path / "centroids.npy", np.asarray(fitted.centroids_KxD, np.float32))
        save_array(path / "clusters.npy", np.asarray(cluster_N, np.int32))
        return {"inertia": float(fitted.inertia), "iterations": int(fitted.iterations)}

    stage = stages.run("clusters/generic", inputs, work)
    return (np.load(stage.path / "centroids.npy"), np.load(stage.path / "clusters.npy"),
            stage.fingerprint)


def _assign(stages: Stages, name: str, x_NxD: np.ndarray, embedded: str, centroids_KxD: np.ndarray,
            clusters: str) -> np.ndarray:
    """int32 [N]: the cluster of each window of a domain."""
    def work(path: Path) -> dict:
        cluster_N, _ = kmeans.assign(x_NxD, centroids_KxD)
        save_array(path / "clusters.npy", np.asarray(cluster_N, np.int32))
        return {"windows": len(cluster_N)}

    stage = stages.run(f"clusters/{name}", {"embeddings": embedded, "clusters": clusters}, work)
    return np.load(stage.path / "clusters.npy")
