"""Embedding and clustering of the window stores, as stages; clusters are sidecars of the stores."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import embeddings, encoders, kmeans, levels, tree
from specialm.common import manifest
from specialm.common.errors import UserError
from specialm.common.files import remove_folder, save_array
from specialm.common.stages import Stages, digest
from specialm.common.stages import fingerprint as hash_of
from specialm.data.prepare import Prepared
from specialm.data.store import WindowStore
from specialm.data.vocabularies import Vocabulary


@dataclass(frozen=True)
class Clusters:
    """The cluster of every generic training window and of each domain's specialist windows.

    The latter are the training windows in use, in the order of `Prepared.specialist_indices`.
    """

    centroids_KxD: np.ndarray
    generic_NxD: np.ndarray  # embeddings, memory-mapped
    generic_N: np.ndarray
    domains: dict[str, np.ndarray]
    fingerprint: str
    encoder: encoders.Encoder | None = None  # None: no longer needed
    tree: "tree.Tree | None" = None  # its leaves are the clusters; None: the nearest centroid is

    @property
    def share_K(self) -> np.ndarray:
        """float64 [K]: share of the generic windows in each cluster."""
        return np.bincount(self.generic_N, minlength=len(self.centroids_KxD)) / len(self.generic_N)

    def typical(self, cluster: int, count: int) -> np.ndarray:
        """Return the generic windows of a cluster that lie nearest to its centroid."""
        members = np.flatnonzero(self.generic_N == cluster)
        distances = np.linalg.norm(self.generic_NxD[members] - self.centroids_KxD[cluster], axis=1)
        return members[np.argsort(distances, kind="stable")[:count]]


class Rows(Protocol):
    """Computes an array's rows elsewhere: `pieces.InPieces.rows`."""

    def __call__(
        self,
        title: str,
        folder: Path,
        count: int,
        chunk: int,
        compute: Callable[[int, int], np.ndarray],
    ) -> Callable[[int, int], np.ndarray]:
        """Call `compute(start, stop)` for every chunk, in any order; return what reads them."""


def read_texts(store: WindowStore, vocabulary: Vocabulary, indices: np.ndarray) -> list[str]:
    """Return the text of windows."""
    return [vocabulary.decode(tokens) for tokens in store.read(np.asarray(indices, np.int64))]


def cluster(
    config: ConfigDict,
    stages: Stages,
    prepared: Prepared,
    k: int,
    setting: str = "clustering.k",
    rows: Rows | None = None,
) -> Clusters:
    """Embed the windows, cluster the generic ones, assign those of the domains.

    Args:
      config: the run's settings.
      stages: of the work folder.
      prepared: the window stores.
      k: number of clusters; with `clustering.method=tree` the size of one of its levels.
      setting: where k comes from, for the error.
      rows: embeds and assigns; None for this process.

    Raises:
      UserError: more clusters than windows (in a tree: at its first level), a tree without such a
        level, or an encoder whose files are missing.

    """
    settings = config.clustering
    # A tree may have more leaves than windows: children that no window would reach are left out.
    least, named = k, f"{setting}={k}"
    if settings.method == "tree":
        levels.of_size(settings.branching, k, setting)
        least, named = settings.branching[0], f"clustering.branching={settings.branching}"
    if least > len(prepared.generic):
        raise UserError(
            f"{named}: there are only {len(prepared.generic)} generic windows; "
            "use fewer clusters or more text."
        )
    encoder = _encoder(settings, stages, prepared)
    every = range(len(prepared.generic))
    generic_NxD, embedded = _embed(
        stages, "generic", prepared.generic, every, prepared, encoder, rows
    )
    if settings.method == "tree":
        cluster_tree, generic_N, fingerprint = _train_tree(
            settings, k, setting, stages, generic_NxD, embedded
        )
        centroids_KxD = cluster_tree.leaves_KxD
    else:
        cluster_tree = None
        centroids_KxD, generic_N, fingerprint = _kmeans(
            settings, k, stages, generic_NxD, embedded, rows
        )
    domains = {}
    for domain in prepared.domains:
        domains[domain] = assign_specialist(
            config.data, stages, prepared, domain, encoder, centroids_KxD, fingerprint, cluster_tree
        )
    return Clusters(
        centroids_KxD, generic_NxD, generic_N, domains, fingerprint, encoder, cluster_tree
    )


def assign_specialist(
    data: ConfigDict,
    stages: Stages,
    prepared: Prepared,
    domain: str,
    encoder: encoders.Encoder,
    centroids_KxD: np.ndarray,
    clusters: str,
    cluster_tree: tree.Tree | None = None,
) -> np.ndarray:
    """Return int32 [N]: the cluster of each of a domain's specialist training windows in use.

    Args:
      data: `config.data`.
      stages: of the work folder.
      prepared: the window stores.
      domain: its name.
      encoder: that of the clusters.
      centroids_KxD: of the clusters.
      clusters: the fingerprint of the clusters.
      cluster_tree: the tree whose leaves they are, to descend instead.

    """
    x_NxD, embedded = specialist_vectors(data, stages, prepared, domain, encoder)
    return _assign(stages, domain, x_NxD, embedded, centroids_KxD, clusters, cluster_tree)


def specialist_vectors(
    data: ConfigDict, stages: Stages, prepared: Prepared, domain: str, encoder: encoders.Encoder
) -> tuple[np.ndarray, str]:
    """Return (embeddings [N, D], key) of a domain's specialist training windows in use."""
    used = prepared.specialist_indices(domain, data)["train"]
    return _embed(stages, domain, prepared.domains[domain]["train"], used, prepared, encoder)


def assign_heldout(stages: Stages, prepared: Prepared, clusters: Clusters) -> np.ndarray:
    """Return int32 [N]: the cluster of every window of the generic held-out set."""
    store = prepared.generic_heldout
    x_NxD, embedded = _embed(
        stages, "generic-heldout", store, np.arange(len(store)), prepared, clusters.encoder
    )
    return _assign(
        stages,
        "generic-heldout",
        x_NxD,
        embedded,
        clusters.centroids_KxD,
        clusters.fingerprint,
        clusters.tree,
    )


def _encoder(settings: ConfigDict, stages: Stages, prepared: Prepared) -> encoders.Encoder:
    """Return the encoder; TF-IDF + SVD is fitted on generic windows, in a stage of its own."""
    if settings.encoder == "minilm":
        return encoders.make_encoder(
            "minilm", settings.encoder_path or None, max_tokens=settings.max_tokens
        )
    store = prepared.generic
    inputs = {
        "encoder": settings.encoder,
        "dim": settings.dim,
        "seed": settings.seed,
        "store": store.fingerprint,
    }

    def work(path: Path) -> dict:
        sample = encoders.sample_texts(
            _reader(store, prepared.vocabulary, np.arange(len(store))),
            len(store),
            seed=settings.seed,
        )
        encoder = encoders.make_encoder(
            settings.encoder, seed=settings.seed, dim=settings.dim, sample=sample
        )
        assert isinstance(encoder, encoders.TfidfSvd)
        encoder.save(path / "encoder.npz")
        return {"texts": len(sample)}

    stage = stages.run("encoder", inputs, work)
    return encoders.make_encoder(settings.encoder, stage.path / "encoder.npz")


def _reader(store: WindowStore, vocabulary: Vocabulary, indices):
    return lambda start, stop: read_texts(store, vocabulary, indices[start:stop])


def _vectors(store: WindowStore, vocabulary: Vocabulary, indices, encoder, start: int, stop: int):
    return encoder.encode(read_texts(store, vocabulary, indices[start:stop]), progress=False)


def _embed(
    stages: Stages,
    name: str,
    store: WindowStore,
    indices: np.ndarray | range,
    prepared: Prepared,
    encoder,
    rows: Rows | None = None,
):
    """Return (embeddings [N, D], key) of these windows of a store."""
    inputs = {"store": store.fingerprint, "encoder": encoder.fingerprint}
    if len(indices) < len(store):
        inputs["windows"] = digest(np.asarray(indices))

    def work(path: Path) -> dict:
        computed = rows and rows(
            f"embedding {name}",
            path / "pieces",
            len(indices),
            embeddings.CHUNK,
            partial(_vectors, store, prepared.vocabulary, indices, encoder),
        )
        embedded_NxD = embeddings.embed(
            _reader(store, prepared.vocabulary, indices),
            len(indices),
            encoder,
            path / "embeddings.npy",
            key=store.fingerprint,
            rows=computed,
        )
        remove_folder(path / "pieces")
        return {"windows": len(embedded_NxD), "dim": encoder.dim}

    stage = stages.run(f"embeddings/{name}", inputs, work)
    return manifest.load_array(stage.path / "embeddings.npy", mmap=True), stage.fingerprint


def _kmeans(
    settings: ConfigDict,
    k: int,
    stages: Stages,
    x_NxD: np.memmap,
    embedded: str,
    rows: Rows | None = None,
):
    """Return (centroids, cluster of each generic window, fingerprint)."""
    inputs = {
        "embeddings": embedded,
        "k": k,
        "method": settings.method,
        "iterations": settings.iterations,
        "seed": settings.seed,
    }

    def work(path: Path) -> dict:
        fitted = kmeans.fit(
            x_NxD, k, settings.seed, method=settings.method, iterations=settings.iterations
        )
        cluster_N = _nearest(x_NxD, fitted.centroids_KxD, path, rows)
        save_array(path / "centroids.npy", np.asarray(fitted.centroids_KxD, np.float32))
        save_array(path / "clusters.npy", np.asarray(cluster_N, np.int32))
        return {"inertia": float(fitted.inertia), "iterations": int(fitted.iterations)}

    stage = stages.run("clusters/generic", inputs, work)
    return (
        manifest.load_array(stage.path / "centroids.npy"),
        manifest.load_array(stage.path / "clusters.npy"),
        stage.fingerprint,
    )


def _nearest(
    x_NxD: np.memmap, centroids_KxD: np.ndarray, path: Path, rows: Rows | None
) -> np.ndarray:
    """Return int32 [N]: the cluster of each row; `path` is the stage's folder."""
    if rows is None:
        return kmeans.assign(x_NxD, centroids_KxD)[0]
    count, chunk = len(x_NxD), kmeans.ASSIGN_ROWS
    pieces = path / f"pieces-{digest(np.asarray(centroids_KxD))}"
    computed = rows(
        "assigning",
        pieces,
        count,
        chunk,
        partial(_nearest_in_file, str(x_NxD.filename), np.asarray(centroids_KxD)),
    )
    cluster_N = np.concatenate(
        [computed(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    )
    remove_folder(pieces)
    return cluster_N


def _nearest_in_file(file: str, centroids_KxD: np.ndarray, start: int, stop: int) -> np.ndarray:
    return kmeans.assign(np.load(file, mmap_mode="r")[start:stop], centroids_KxD)[0]


def _train_tree(
    settings: ConfigDict, k: int, setting: str, stages: Stages, x_NxD: np.ndarray, embedded: str
):
    """Return (tree down to the level of k nodes, node of each generic window, fingerprint).

    One tree serves all levels.
    """
    level = levels.of_size(settings.branching, k, setting)
    inputs = {
        "embeddings": embedded,
        "method": "tree",
        "branching": list(settings.branching),
        "sample": min(settings.sample, len(x_NxD)),
        "iterations": settings.iterations,
        "seed": settings.seed,
    }

    def work(path: Path) -> dict:
        if not (path / "tree.npz").exists():  # else a killed assignment is resumed
            tree.fit(
                x_NxD, settings.branching, settings.seed, settings.sample, settings.iterations
            ).save(path / "tree.npz")
        cluster_tree = tree.load(path / "tree.npz")
        tree.assign_to(path / "leaves.npy", x_NxD, cluster_tree, embedded)
        return {
            "rows": cluster_tree.rows,
            "inertia": list(cluster_tree.inertia),
            "nodes": [int(children_P.sum()) for children_P in cluster_tree.children],
        }

    stage = stages.run("clusters/tree", inputs, work)
    leaf_N = manifest.load_array(stage.path / "leaves.npy")
    return (
        tree.load(stage.path / "tree.npz").cut(level),
        levels.ancestors(leaf_N, settings.branching, level),
        hash_of({"tree": stage.fingerprint, "level": level}),
    )


def _assign(
    stages: Stages,
    name: str,
    x_NxD: np.ndarray,
    embedded: str,
    centroids_KxD: np.ndarray,
    clusters: str,
    cluster_tree: tree.Tree | None,
) -> np.ndarray:
    """Return int32 [N]: the cluster of each window of a domain."""

    def work(path: Path) -> dict:
        cluster_N, _ = (
            kmeans.assign(x_NxD, centroids_KxD)
            if cluster_tree is None
            else tree.assign(x_NxD, cluster_tree)
        )
        save_array(path / "clusters.npy", np.asarray(cluster_N, np.int32))
        return {"windows": len(cluster_N)}

    stage = stages.run(f"clusters/{name}", {"embeddings": embedded, "clusters": clusters}, work)
    return manifest.load_array(stage.path / "clusters.npy")
