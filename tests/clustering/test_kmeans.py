"""k-means against brute force and scikit-learn, its empty clusters, and 8 simulated devices."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.clustering import kmeans, passes
from specialm.clustering.encoders import TfidfSvd
from specialm.common.errors import UserError


def blobs(seed: int, count: int = 1000, centres: int = 12, dim: int = 8) -> np.ndarray:
    """Well separated clusters of float32 rows."""
    rng = np.random.default_rng(seed)
    centre_KxD = rng.normal(0, 10, (centres, dim))
    return (centre_KxD[rng.integers(centres, size=count)] + rng.normal(size=(count, dim))).astype(
        np.float32
    )


def squared_distances(x_NxD, centroids_KxD) -> np.ndarray:
    return ((x_NxD[:, None].astype(np.float64) - centroids_KxD[None]) ** 2).sum(-1)


@pytest.mark.parametrize("count,k,dim", [(1, 1, 1), (300, 40, 9), (37, 5, 2)])
@given(seed=st.integers(0, 2**32 - 1), offset=st.sampled_from([0.0, 1000.0]))
@settings(deadline=None, max_examples=25)
def test_assign_is_the_nearest_centroid(count, k, dim, seed, offset):
    rng = np.random.default_rng(seed)
    x_NxD = (rng.normal(size=(count, dim)) + offset).astype(np.float32)
    centroids_KxD = (rng.normal(size=(k, dim)) + offset).astype(np.float32)
    cluster_N, distance_N = kmeans.assign(x_NxD, centroids_KxD)
    nearest_N = np.sqrt(squared_distances(x_NxD, centroids_KxD).min(1))
    chosen_N = np.linalg.norm(x_NxD.astype(np.float64) - centroids_KxD[cluster_N], axis=1)
    assert cluster_N.dtype == np.int32
    np.testing.assert_allclose(chosen_N, nearest_N, atol=2e-3 if offset else 2e-5)
    np.testing.assert_allclose(distance_N, chosen_N, atol=2e-3 if offset else 2e-5)


def test_assign_in_many_pieces(monkeypatch):
    x_NxD = blobs(0)
    centroids_KxD = x_NxD[:20]
    whole = kmeans.assign(x_NxD, centroids_KxD)
    np.testing.assert_array_equal(whole[0], squared_distances(x_NxD, centroids_KxD).argmin(1))
    monkeypatch.setattr(kmeans, "ASSIGN_ROWS", 700)
    monkeypatch.setitem(passes.BLOCK_SCORES, "cpu", 900)
    pieces = kmeans.assign(x_NxD, centroids_KxD)
    np.testing.assert_array_equal(pieces[0], whole[0])
    np.testing.assert_allclose(pieces[1], whole[1], rtol=1e-5)


def test_one_lloyd_iteration_against_numpy(monkeypatch):
    """From the same start; in blocks that do not divide the rows."""
    monkeypatch.setitem(passes.BLOCK_SCORES, "cpu", 64 * 10)
    x_NxD = blobs(1, count=1001)
    start_KxD = kmeans.plus_plus(x_NxD, 10, seed=3)
    cluster_N = squared_distances(x_NxD, start_KxD).argmin(1)
    means_KxD = np.stack([x_NxD[cluster_N == c].mean(0) for c in range(10)])
    made = kmeans.fit(x_NxD, 10, seed=3, iterations=1)
    np.testing.assert_allclose(made.centroids_KxD, means_KxD, atol=1e-5)
    final_NxK = squared_distances(x_NxD, means_KxD)
    assert made.inertia == pytest.approx(final_NxK.min(1).sum(), rel=1e-5)
    np.testing.assert_array_equal(made.sizes_K, np.bincount(final_NxK.argmin(1), minlength=10))
    assert made.iterations == 1 and not made.converged


def test_sums_of_both_kinds_of_devices_agree(monkeypatch):
    """Accelerators add rows by a matrix product, CPUs by a scatter."""
    rng = np.random.default_rng(0)
    x_BxD = rng.normal(size=(50, 4)).astype(np.float32)
    cluster_B = rng.integers(0, 7, 50).astype(np.int32)  # 6 is padding
    by_hand = np.stack([x_BxD[cluster_B == c].sum(0) for c in range(6)])
    for backend in ("cpu", "tpu"):
        monkeypatch.setattr(passes.jax, "default_backend", lambda name=backend: name)
        sums_KxD, counts_K = passes.add(x_BxD, cluster_B, 6)
        np.testing.assert_allclose(sums_KxD, by_hand, atol=1e-5)
        np.testing.assert_array_equal(counts_K, np.bincount(cluster_B, minlength=7)[:6])


@pytest.mark.parametrize("method", ["full", "minibatch"])
def test_deterministic_in_the_seed(method):
    x_NxD = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    one, two, other = (
        kmeans.fit(x_NxD, 12, seed, method, iterations=8, batch_size=256) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.centroids_KxD, two.centroids_KxD)
    assert np.abs(one.centroids_KxD - other.centroids_KxD).max() > 0.1


@pytest.mark.parametrize("method", ["full", "minibatch"])
def test_separated_clusters_are_found(method):
    x_NxD = blobs(2)
    made = kmeans.fit(x_NxD, 12, 0, method, batch_size=256)
    # Within a cluster every column has variance 1: inertia about N D.
    assert made.inertia == pytest.approx(x_NxD.size, rel=0.05)
    cluster_N, distance_N = kmeans.assign(x_NxD, made.centroids_KxD)
    np.testing.assert_array_equal(made.sizes_K, np.bincount(cluster_N, minlength=12))
    assert made.inertia == pytest.approx(float((distance_N**2).sum()), rel=1e-5)
    assert made.converged == (method == "full")


def test_inertia_against_scikit_learn():
    """Overlapping data, where k-means depends on its start; the mean of three seeds."""
    from sklearn.cluster import KMeans

    x_NxD = np.random.default_rng(4).normal(size=(4000, 12)).astype(np.float32)
    x_NxD /= np.linalg.norm(x_NxD, axis=1, keepdims=True)
    ours = [kmeans.fit(x_NxD, 40, seed, iterations=100).inertia for seed in range(3)]
    theirs = [
        KMeans(40, n_init=1, max_iter=100, random_state=seed).fit(x_NxD).inertia_
        for seed in range(3)
    ]
    print("inertia, ours and scikit-learn's, seeds 0 to 2:", ours, theirs)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.01)


def test_inertia_against_scikit_learn_on_real_text(real_documents):
    """The mean of three seeds is within 1%."""
    from sklearn.cluster import KMeans

    windows = [text[i : i + 250] for text in real_documents for i in range(0, len(text), 250)]
    x_NxD = TfidfSvd.fit(windows[:4000], 32).encode(windows[:4000], progress=False)
    ours = [kmeans.fit(x_NxD, 40, seed, iterations=50).inertia for seed in range(3)]
    theirs = [
        KMeans(40, n_init=1, max_iter=50, random_state=seed).fit(x_NxD).inertia_
        for seed in range(3)
    ]
    print("inertia, ours and scikit-learn's, seeds 0 to 2:", ours, theirs)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.01)


def test_the_start_spreads_over_separated_clusters():
    x_NxD = blobs(5)
    for seed in range(5):
        start_KxD = kmeans.plus_plus(x_NxD, 12, seed)
        assert squared_distances(x_NxD, start_KxD).min(1).sum() < 4 * x_NxD.size
        assert (squared_distances(start_KxD, x_NxD).min(1) == 0).all()


def test_rows_behind_the_count_are_never_chosen():
    x_MxD = blobs(11, count=100)
    x_MxD[60:] = 1e3  # the farthest by far
    for count in (60, 5):
        chosen_K = np.asarray(kmeans.choose_start(x_MxD, jax.random.key(0), 12, count))
        assert chosen_K.max() < count
        assert len(np.unique(chosen_K)) == min(count, 12)


def test_empty_clusters_go_to_the_farthest_rows(monkeypatch):
    """From a start of equal centroids all clusters but one are empty."""
    x_NxD = blobs(6)
    total = x_NxD.var(0).sum() * len(x_NxD)
    monkeypatch.setattr(kmeans, "plus_plus", lambda x, k, *rest: np.repeat(x[:1], k, 0))
    for method in ("full", "minibatch"):
        made = kmeans.fit(x_NxD, 12, 0, method, iterations=20, batch_size=256)
        assert made.sizes_K.min() > 0, method
        assert made.inertia < 0.5 * total, method
    centroids_KxD = np.repeat(x_NxD[:1], 3, 0)
    distance_N = np.linalg.norm(x_NxD - x_NxD[0], axis=1)
    assert kmeans._reseed(centroids_KxD, np.array([1000, 0, 0]), x_NxD, distance_N) == 2
    np.testing.assert_array_equal(centroids_KxD[1:], x_NxD[np.argsort(-distance_N)[:2]])


def test_fewer_different_rows_than_clusters():
    rows_RxD = np.random.default_rng(7).normal(size=(20, 3)).astype(np.float32)
    made = kmeans.fit(np.repeat(rows_RxD, 10, 0), 25)
    np.testing.assert_array_equal(np.sort(made.sizes_K), [0] * 5 + [10] * 20)
    assert made.inertia == pytest.approx(0, abs=1e-9)


def test_as_many_clusters_as_rows():
    made = kmeans.fit(np.random.default_rng(7).normal(size=(20, 3)).astype(np.float32), 20)
    np.testing.assert_array_equal(made.sizes_K, np.ones(20))
    assert made.inertia == 0


@pytest.mark.parametrize("method", ["full", "minibatch"])
def test_memory_map(tmp_path, method):
    x_NxD = blobs(8)
    np.save(tmp_path / "x.npy", x_NxD)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    inside, outside = (kmeans.fit(x, 12, 1, method, iterations=5) for x in (x_NxD, mapped))
    np.testing.assert_array_equal(inside.centroids_KxD, outside.centroids_KxD)


def test_bad_input_is_named():
    x_NxD = blobs(9)
    with pytest.raises(UserError, match="clustering.k=1001: .*number of windows, 1000"):
        kmeans.fit(x_NxD, 1001)
    with pytest.raises(UserError, match="clustering.k=0"):
        kmeans.fit(x_NxD, 0)
    with pytest.raises(UserError, match="clustering.method='mini'"):
        kmeans.fit(x_NxD, 12, method="mini")
    x_NxD[7, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        kmeans.fit(x_NxD, 12)


def test_a_growing_sample_and_near_centroids_against_all(monkeypatch):
    """The inertia is that of iterations over all rows and all centroids."""
    x_NxD = np.random.default_rng(12).normal(size=(6000, 6)).astype(np.float32)
    monkeypatch.setattr(kmeans, "START_ROWS", 400)
    monkeypatch.setattr(kmeans, "FIRST_ROWS_PER_CLUSTER", 8)
    monkeypatch.setitem(kmeans.NEAR, "cpu", 10)
    seen, step = [], passes.step

    def spy(mesh):
        def work(x_sxBxD, count, centroids_KxD, near_sxa):
            seen.append((int(count), near_sxa is not None))
            return step(mesh)(x_sxBxD, count, centroids_KxD, near_sxa)

        return work

    monkeypatch.setattr(passes, "step", spy)
    made = kmeans.fit(x_NxD, 60, 0, iterations=30)
    assert seen[0] == (480, False) and (6000, True) in seen and seen[-1] == (6000, False)
    assert sorted(seen[:-1]) == seen[:-1]  # the sample only grows
    monkeypatch.setattr(kmeans, "FIRST_ROWS_PER_CLUSTER", 1000)
    monkeypatch.setitem(kmeans.NEAR, "cpu", 60)
    exact = kmeans.fit(x_NxD, 60, 0, iterations=30)
    print("inertia, and of exact iterations over all rows:", made.inertia, exact.inertia)
    assert made.inertia == pytest.approx(exact.inertia, rel=0.01)
    assert made.sizes_K.min() > 0 and made.sizes_K.sum() == 6000


ON_DEVICES = """
import json, sys
import jax, numpy as np
from specialm.clustering import kmeans
x_NxD = np.load(sys.argv[1])
kmeans.START_ROWS, kmeans.NEAR["cpu"] = 200, 3  # a growing sample, and near centroids alone
found = {}
for method in ("full", "minibatch"):
    for devices in (jax.devices()[:1], jax.devices()):
        made = kmeans.fit(x_NxD, 12, 0, method, iterations=20, batch_size=500, devices=devices)
        cluster_N, _ = kmeans.assign(x_NxD, made.centroids_KxD, devices)
        found[f"{method} {len(devices)}"] = [
            made.centroids_KxD.tolist(), made.inertia, cluster_N.tolist()]
print(json.dumps(found))
"""


def test_eight_devices_give_what_one_gives(tmp_path):
    np.save(tmp_path / "x.npy", blobs(10, count=1003))
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "SPECIALM_PROGRESS": "0",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(tmp_path / "x.npy")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for method in ("full", "minibatch"):
        one, eight = found[f"{method} 1"], found[f"{method} 8"]
        np.testing.assert_allclose(eight[0], one[0], atol=1e-4)
        assert eight[1] == pytest.approx(one[1], rel=1e-5)
        assert eight[2] == one[2]
