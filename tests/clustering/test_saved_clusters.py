"""The clusters that a bank carries, alone."""

import numpy as np
import pytest

from specialm import config as config_lib
from specialm.clustering import encoders, saved_clusters
from specialm.clustering.clusters import Clusters
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.data.prepare import Prepared


@pytest.fixture(scope="module")
def encoder(real_documents):
    return encoders.TfidfSvd.fit(real_documents[:200], 8, 0)


@pytest.fixture
def base(tmp_path, encoder):
    centroids_KxD = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    clusters = Clusters(centroids_KxD, np.zeros((1, 8)), np.zeros(1, int), {}, "made", encoder)
    saved_clusters.save(tmp_path / "base", config_lib.default().clustering, clusters)
    return tmp_path / "base"


def assign(base, store, vocabulary, tmp_path):
    config = config_lib.default()
    config.data.specialist_tokens = 2000
    prepared = Prepared(vocabulary, {"mine": dict.fromkeys(("train", "valid", "heldout"), store)})
    return saved_clusters.assign(
        base, config, Stages(tmp_path / "work", quiet=True), prepared, "mine"
    )


def test_the_nearest_centroid_of_each_specialist_window(base, store, vocabulary, encoder, tmp_path):
    cluster_N, fingerprint = assign(base, store, vocabulary, tmp_path)
    used = store.subset(2000)
    x_NxD = encoder.encode([vocabulary.decode(row) for row in store.read(used)])
    centroids_KxD = np.load(base / "clusters" / "centroids.npy")
    distance_NxK = ((x_NxD[:, None] - centroids_KxD) ** 2).sum(-1)
    assert cluster_N.tolist() == distance_NxK.argmin(1).tolist()
    assert len(cluster_N) == len(used) > 100 and len(set(cluster_N.tolist())) > 1
    assert fingerprint == "made"


def test_a_changed_encoder_is_refused(base, store, vocabulary, tmp_path, real_documents):
    encoders.TfidfSvd.fit(real_documents[200:400], 8, 0).save(base / "clusters" / "encoder.npz")
    with pytest.raises(UserError, match="computed with another version of tfidf_svd"):
        assign(base, store, vocabulary, tmp_path)


def test_a_base_without_clusters_is_named(store, vocabulary, tmp_path):
    with pytest.raises(UserError, match="none has no clusters.* give the --config"):
        assign(tmp_path / "none", store, vocabulary, tmp_path)
