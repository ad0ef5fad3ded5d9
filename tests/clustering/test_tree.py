"""Trees of clusters: descent against NumPy, few rows, bounded memory, resuming, devices."""

import dataclasses

import jax
import numpy as np
import pytest

from specialm.clustering import descent, levels, passes, tree, tree_training
from specialm.clustering.encoders import TfidfSvd
from specialm.common.errors import UserError


@pytest.fixture(scope="module")
def x_NxD(real_documents) -> np.ndarray:
    """Embeddings of real text. The tests share shapes, so that little is compiled."""
    windows = [text[i : i + 250] for text in real_documents for i in range(0, len(text), 250)]
    return TfidfSvd.fit(windows[:3000], 16).encode(windows[:3000], progress=False)


@pytest.fixture(scope="module")
def grown(x_NxD) -> tree.Tree:
    return tree.fit(x_NxD, (4, 8, 8), seed=1, iterations=20)


def greedy(x_NxD, made: tree.Tree) -> tuple[np.ndarray, np.ndarray]:
    """Leaf and distance by the definition, in float64."""
    leaf_N, distance_N = [], []
    for x_D in x_NxD.astype(np.float64):
        node = 0
        for centroids_PxbxD, children_P, width in zip(
            made.centroids, made.children, made.branching, strict=True
        ):
            there_bxD = centroids_PxbxD[node, : children_P[node]].astype(np.float64)
            away_B = np.linalg.norm(there_bxD - x_D, axis=1)
            node = node * width + away_B.argmin()
        leaf_N.append(node)
        distance_N.append(away_B.min())
    return np.array(leaf_N), np.array(distance_N)


def test_assign_is_greedy_descent(x_NxD, grown):
    rows = np.random.default_rng(0).normal(0, 0.3, (3000, 16)).astype(np.float32)  # unseen as well
    for some_NxD in (x_NxD, rows):
        leaf_N, distance_N = tree.assign(some_NxD, grown)
        wanted_N, wanted_distance_N = greedy(some_NxD, grown)
        assert leaf_N.dtype == np.int32
        np.testing.assert_allclose(distance_N, wanted_distance_N, atol=2e-5)
        np.testing.assert_array_equal(leaf_N, wanted_N)


def test_a_leaf_lies_below_what_the_cut_tree_assigns(x_NxD, grown):
    leaf_N, _ = tree.assign(x_NxD, grown)
    for level, size in ((1, 4), (2, 32), (3, 256), (0, 256)):
        cut = grown.cut(level)
        assert cut.leaves == levels.nodes(grown.branching, level) == size
        node_N, distance_N = tree.assign(x_NxD, cut)
        np.testing.assert_array_equal(levels.ancestors(leaf_N, grown.branching, level), node_N)
        centroid_NxD = cut.leaves_KxD[node_N]
        np.testing.assert_allclose(
            np.linalg.norm(x_NxD - centroid_NxD, axis=1), distance_N, atol=1e-5
        )
        assert grown.inertia[level - 1] == pytest.approx(float((distance_N**2).sum()), rel=1e-5)
    assert list(grown.inertia) == sorted(grown.inertia, reverse=True)


def test_every_node_is_the_k_means_of_its_rows(x_NxD, grown):
    """Its children are the means of the rows that come to them, as far as the limit of iterations
    lets them settle, and as good as scikit-learn's."""
    from sklearn.cluster import KMeans

    node_N, _ = tree.assign(x_NxD, grown.cut(2))
    assert grown.cut(2).present_K.all()
    for node in range(32):
        np.testing.assert_allclose(
            grown.cut(2).leaves_KxD[node], x_NxD[node_N == node].mean(0), atol=0.02
        )
    above_N = node_N // 8
    flat = sum(
        np.mean(
            [
                KMeans(8, n_init=1, max_iter=20, random_state=seed)
                .fit(x_NxD[above_N == node])
                .inertia_
                for seed in range(3)
            ]
        )
        for node in range(4)
    )
    print("inertia of the second level / scikit-learn's in its nodes:", grown.inertia[1] / flat)
    assert grown.inertia[1] == pytest.approx(flat, rel=0.02)


def test_inertia_against_flat_k_means(x_NxD):
    """8 x 8 leaves, greedy, within 20% of scikit-learn's 64 clusters."""
    from sklearn.cluster import KMeans

    made = tree.fit(x_NxD, (8, 8), iterations=20)
    flat = KMeans(64, n_init=1, max_iter=20, random_state=0).fit(x_NxD).inertia_
    print("inertia of the tree / flat:", made.inertia[-1] / flat)
    assert made.inertia[-1] < 1.2 * flat
    nearest = ((x_NxD[:, None] - made.leaves_KxD[made.present_K]) ** 2).sum(-1).min(1).sum()
    assert nearest <= made.inertia[-1] < 1.1 * nearest


def test_deterministic_in_the_seed(x_NxD, grown):
    again = tree.fit(x_NxD, (4, 8, 8), seed=1, iterations=20)
    assert again.fingerprint == grown.fingerprint and again.inertia == grown.inertia
    assert tree.fit(x_NxD, (4, 8, 8), seed=2, iterations=20).fingerprint != grown.fingerprint


def test_the_start_of_lower_levels_is_of_the_seed(x_NxD, monkeypatch):
    """With the same first level, and the rows in the same order."""
    first, rng = tree.kmeans.fit, np.random.default_rng
    monkeypatch.setattr(tree.kmeans, "fit", lambda x, k, seed, *a, **b: first(x, k, 1, *a, **b))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: rng([0, *np.atleast_1d(seed)[1:]]))
    one, again, other = (tree.fit(x_NxD, (4, 8, 8), seed, iterations=20) for seed in (1, 1, 2))
    assert one.fingerprint == again.fingerprint
    np.testing.assert_array_equal(one.centroids[0], other.centroids[0])
    assert np.abs(one.centroids[1] - other.centroids[1]).max() > 1e-3


def test_small_blocks_and_many_at_a_time_change_nothing(x_NxD, grown, monkeypatch):
    cut = grown.cut(2)
    leaf_N, distance_N = tree.assign(x_NxD, cut)
    monkeypatch.setitem(passes.BLOCK_SCORES, "cpu", 8 * 50)  # blocks of at most 50 rows
    monkeypatch.setitem(descent.STEP_ROWS, "cpu", 300)  # six together, as on an accelerator
    descent._descent.cache_clear()
    pieces = tree.assign(x_NxD, cut, chunk=1000)
    descent._descent.cache_clear()
    np.testing.assert_array_equal(pieces[0], leaf_N)
    np.testing.assert_allclose(pieces[1], distance_N, atol=1e-5)


def test_one_device_gives_what_two_give():
    """On separated clusters, so that rounding decides nothing."""
    rng = np.random.default_rng(3)
    centre_KxD = rng.normal(0, 10, (32, 16))
    x_NxD = (centre_KxD[rng.integers(32, size=3000)] + rng.normal(size=(3000, 16))).astype("f4")
    assert len(jax.devices()) == 2
    one, two = (
        tree.fit(x_NxD, (4, 8), iterations=20, devices=devices)
        for devices in (jax.devices()[:1], jax.devices())
    )
    for level in range(2):
        np.testing.assert_allclose(one.centroids[level], two.centroids[level], atol=1e-4)
        np.testing.assert_array_equal(one.children[level], two.children[level])
    np.testing.assert_array_equal(
        tree.assign(x_NxD, one, devices=jax.devices()[:1])[0], tree.assign(x_NxD, one)[0]
    )


def test_a_node_of_few_rows_has_few_children():
    """And one whose rows are all alike has one; a missing child is never taken."""
    rng = np.random.default_rng(0)
    many = rng.normal(size=(2955, 16)) + np.where(np.arange(2955) % 2, 0, 50)[:, None]
    few, alike = rng.normal(size=(5, 16)) + 100, np.full((40, 16), -100.0)
    x_NxD = np.concatenate([many, few, alike]).astype(np.float32)
    made = tree.fit(x_NxD, (4, 8), iterations=20)
    leaf_N, distance_N = tree.assign(x_NxD, made)
    children_P = made.children[1]
    assert sorted(children_P) == [1, 5, 8, 8]
    node = int(np.flatnonzero(children_P == 5)[0])
    assert sorted(leaf_N[2955:2960]) == [8 * node + child for child in range(5)]
    assert distance_N[2955:].max() < 1e-4
    assert made.present_K.sum() == 22 == len(np.unique(leaf_N))
    above_KxD = made.centroids[0][0]
    np.testing.assert_array_equal(made.centroids[1][node, 5:], np.repeat(above_KxD[[node]], 3, 0))
    onto_missing = np.repeat(above_KxD, 750, 0)
    assert made.present_K[tree.assign(onto_missing, made)[0]].all()


def test_fewer_rows_than_leaves_and_all_rows_alike():
    made = tree.fit(np.ones((3000, 16), np.float32), (4, 8), iterations=20)
    assert [children_P.tolist() for children_P in made.children] == [[1], [1, 0, 0, 0]]
    assert (tree.assign(np.ones((3000, 16), np.float32), made)[0] == 0).all()


def test_trained_on_a_sample(x_NxD, grown):
    twice_NxD = np.concatenate([x_NxD, x_NxD])
    made = tree.fit(twice_NxD, (4, 8, 8), seed=1, sample=3000, iterations=20)
    assert made.rows == 3000 and made.fingerprint != grown.fingerprint
    _, distance_N = tree.assign(twice_NxD, made, 3000)
    assert grown.inertia[-1] < float((distance_N**2).sum()) / 2 < 1.3 * grown.inertia[-1]


def test_large_nodes_are_trained_on_a_part(x_NxD, grown, monkeypatch):
    monkeypatch.setattr(tree_training, "ROWS_PER_CHILD", 32)  # 256 rows of the 750 that a node has
    made = tree.fit(x_NxD, (4, 8, 8), seed=1, iterations=20)
    np.testing.assert_array_equal(made.centroids[0], grown.centroids[0])
    assert grown.inertia[1] < made.inertia[1] < 1.1 * grown.inertia[1]


def test_save_and_load(tmp_path, grown):
    grown.save(tmp_path / "tree.npz")
    found = tree.load(tmp_path / "tree.npz")
    assert found.fingerprint == grown.fingerprint
    for field in dataclasses.fields(tree.Tree):
        wanted, got = getattr(grown, field.name), getattr(found, field.name)
        assert type(wanted) is type(got)
        for a, b in zip(wanted, got, strict=True) if isinstance(got, tuple) else [(wanted, got)]:
            np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="nothing.npz"):
        tree.load(tmp_path / "nothing.npz")


class Reads:
    """Rows that remember what was read of them, and stop the reader after some reads."""

    def __init__(self, x_NxD, stop_after: int = 1000):
        self.x_NxD, self.shape, self.left, self.seen = x_NxD, x_NxD.shape, stop_after, []

    def __len__(self):
        return len(self.x_NxD)

    def __getitem__(self, rows):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.seen.append(rows.start)
        return self.x_NxD[rows]


def test_assigned_to_a_file_that_goes_on_after_a_kill(tmp_path, x_NxD, grown):
    path, cut = tmp_path / "leaves.npy", grown.cut(2)
    with pytest.raises(KeyboardInterrupt):
        tree.assign_to(path, Reads(x_NxD, 2), cut, "a", chunk=1000)
    assert not path.exists()
    rest = Reads(x_NxD)
    leaf_N = tree.assign_to(path, rest, cut, "a", chunk=1000)
    assert rest.seen == [2000]
    assert isinstance(leaf_N, np.memmap) and leaf_N.dtype == np.int32
    np.testing.assert_array_equal(leaf_N, tree.assign(x_NxD, cut)[0])
    nothing = Reads(x_NxD, 0)
    np.testing.assert_array_equal(tree.assign_to(path, nothing, cut, "a"), leaf_N)
    for made, key in ((grown, "a"), (grown, "b")):  # another tree, other rows
        again = Reads(x_NxD)
        np.testing.assert_array_equal(
            tree.assign_to(path, again, made, key), tree.assign(x_NxD, made)[0]
        )
        assert again.seen == [0]


def test_memory_map_and_no_rows(tmp_path, x_NxD, grown):
    np.save(tmp_path / "x.npy", x_NxD)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert tree.fit(mapped, (4, 8, 8), seed=1, iterations=20).fingerprint == grown.fingerprint
    np.testing.assert_array_equal(tree.assign(mapped, grown)[0], tree.assign(x_NxD, grown)[0])
    assert [len(found) for found in tree.assign(x_NxD[:0], grown)] == [0, 0]


def test_bad_input_is_named(x_NxD):
    for branching in ((), (4, 0), (4, 2.5), (2048, 2048, 2048)):
        with pytest.raises(UserError, match="clustering.branching=.*whole numbers"):
            tree.fit(x_NxD, branching)
    with pytest.raises(UserError, match=r"clustering.branching=\(9, 2\): .*train on, 8; use fewer"):
        tree.fit(x_NxD[:8], (9, 2))
    with pytest.raises(UserError, match=r"clustering.level=3: .*levels 1 to 2"):
        levels.nodes((4, 4), 3)
    with pytest.raises(UserError, match=r"num_experts=5: .*\(4, 8\) has levels of 4, 32"):
        levels.of_size((4, 8), 5, "model.num_experts")
    broken = x_NxD.copy()
    broken[7, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        tree.fit(broken, (4, 4))
