"""The clusters of a bank or a mixture, saved in its run folder.

With them new text is assigned to its experts without the generic corpus.

    RUN/clusters/centroids.npy   float32 [K, D]
    RUN/clusters/tree.npz        of clustering.method=tree: the tree whose leaves the clusters are
    RUN/clusters/encoder.npz     of tfidf_svd
    RUN/clusters/minilm/         of minilm, in a bundle; elsewhere its weights are found where they
                                 usually are
    RUN/clusters/clusters.json   the encoder's name, settings and fingerprint, and that of the
                                 clusters; written last
"""

import shutil
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from specialm.clustering import encoders, tree
from specialm.clustering.clusters import Clusters, assign_specialist
from specialm.clustering.minilm_files import MINILM_FILES
from specialm.common import manifest, processes
from specialm.common.errors import UserError
from specialm.common.files import read_json, save_array, write_json
from specialm.common.stages import Stages
from specialm.data.prepare import Prepared

FOLDER, MINILM = "clusters", "minilm"
FILES = ("centroids.npy", "tree.npz", "encoder.npz", "clusters.json")


def save(base: Path, settings: ConfigDict, clusters: Clusters) -> None:
    """Write the clusters into the run folder `base`; of several processes the first does.

    Args:
      base: the run folder.
      settings: `config.clustering`.
      clusters: with their encoder.

    """
    if not processes.is_first():
        return
    folder, encoder = base / FOLDER, clusters.encoder
    if encoder is None:
        raise ValueError("clusters without their encoder cannot be saved")
    folder.mkdir(parents=True, exist_ok=True)
    save_array(folder / "centroids.npy", np.asarray(clusters.centroids_KxD, np.float32))
    if clusters.tree is not None:
        clusters.tree.save(folder / "tree.npz")
    if isinstance(encoder, encoders.TfidfSvd):
        encoder.save(folder / "encoder.npz")
    write_json(
        folder / "clusters.json",
        {
            "encoder": encoder.name,
            "max_tokens": settings.max_tokens,
            "encoder_fingerprint": encoder.fingerprint,
            "fingerprint": clusters.fingerprint,
        },
    )


def copy_with_encoder(base: Path, target: Path, settings: ConfigDict) -> str:
    """Copy the clusters of a run folder into another one, with all that their encoder reads.

    Args:
      base: the run folder that has them.
      target: the one that gets them.
      settings: `config.clustering`.

    Returns:
      The encoder's name.

    Raises:
      UserError: see `assign`; the encoder's files are missing.

    """
    folder = base / FOLDER
    facts, encoder = _opened(base, settings)
    (target / FOLDER).mkdir(parents=True)
    for name in FILES:
        if (folder / name).exists():
            manifest.check(folder / name)
            shutil.copyfile(folder / name, target / FOLDER / name)
    if isinstance(encoder, encoders.MiniLM):
        (target / FOLDER / MINILM).mkdir()
        for name in MINILM_FILES:
            shutil.copyfile(encoder.folder / name, target / FOLDER / MINILM / name)
    return str(facts["encoder"])


def assign(
    base: Path, config: ConfigDict, stages: Stages, prepared: Prepared, domain: str
) -> tuple[np.ndarray, str]:
    """Return the cluster of each of a domain's specialist training windows in use.

    Returns:
      (int32 [N], fingerprint of the clusters)

    Raises:
      UserError: `base` has no clusters, they are damaged, or its encoder is not the one it was
        trained with.

    """
    folder = base / FOLDER
    facts, encoder = _opened(base, config.clustering)
    centroids_KxD = manifest.load_array(folder / "centroids.npy")
    file = folder / "tree.npz"
    cluster_tree = tree.load(file) if file.exists() else None
    return assign_specialist(
        config.data,
        stages,
        prepared,
        domain,
        encoder,
        centroids_KxD,
        facts["fingerprint"],
        cluster_tree,
    ), facts["fingerprint"]


def _opened(base: Path, settings: ConfigDict) -> tuple[dict, encoders.Encoder]:
    """Return (clusters.json, the encoder); raise as `assign`."""
    folder = base / FOLDER
    if not (folder / "clusters.json").exists():
        raise UserError(
            f"--checkpoint={base} has no clusters (an earlier version wrote it); "
            "give the --config that it was trained with."
        )
    manifest.check(folder / "clusters.json")
    facts = read_json(folder / "clusters.json")
    encoder = _encoder(folder, facts, settings)
    if encoder.fingerprint != facts["encoder_fingerprint"]:
        raise UserError(
            f"--checkpoint={base}: its clusters were computed with another version of "
            f"{facts['encoder']}; set clustering.encoder_path to that one."
        )
    return facts, encoder


def _encoder(folder: Path, facts: dict, settings: ConfigDict) -> encoders.Encoder:
    if facts["encoder"] == "tfidf_svd":
        return encoders.make_encoder("tfidf_svd", folder / "encoder.npz")
    path = settings.encoder_path or None
    if path is None and (folder / MINILM).is_dir():
        path = folder / MINILM
        manifest.check(path)
    return encoders.make_encoder(facts["encoder"], path, max_tokens=facts["max_tokens"])
