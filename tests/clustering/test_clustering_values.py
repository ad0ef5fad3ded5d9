"""Values that a small mistake in clustering would change: tolerances, rates, seeds, histograms."""

import json
import types

import jax
import numpy as np
import pytest

from specialm.clustering import clusters, kmeans, levels, repetition, tree, weights
from specialm.clustering.clusters import Clusters
from specialm.clustering.encoders import sample_texts
from specialm.common.stages import fingerprint


def rows(seed=0, count=600, dim=3):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_k_means_stops_at_its_tolerance_and_not_before():
    """At the first step whose shift is within it, of a tolerance right above the shift of each."""
    x_NxD = rows()
    centroids = [
        kmeans.fit(x_NxD, 6, 0, iterations=n, tolerance=0.0).centroids_KxD for n in range(2, 9)
    ]
    shifts = [float(np.square(b - a).sum()) for a, b in zip(centroids, centroids[1:], strict=False)]
    tried = 0
    for n, shift in enumerate(shifts):
        if shift < 0.9 * min([*shifts[:n], np.inf]):
            tolerance = 1.01 * shift / x_NxD.var(axis=0).mean()
            made = kmeans.fit(x_NxD, 6, 0, iterations=200, tolerance=tolerance)
            assert made.converged
            np.testing.assert_array_equal(made.centroids_KxD, centroids[n + 1])
            tried += 1
    assert tried >= 3


def test_a_mini_batch_centroid_is_the_mean_of_all_its_rows():
    """Of one cluster: of everything that was drawn, the start left out."""
    x_NxD = rows(1)
    made = kmeans.fit(x_NxD, 1, seed=5, method="minibatch", iterations=4, batch_size=50)
    drawn = [np.random.default_rng([5, i]).integers(600, size=50) for i in range(4)]
    np.testing.assert_allclose(
        made.centroids_KxD[0], x_NxD[np.concatenate(drawn)].mean(0), atol=1e-5
    )


def test_mini_batches_are_of_the_seed(monkeypatch):
    x_NxD = rows(2)
    monkeypatch.setattr(kmeans, "plus_plus", lambda x, k, *rest: x_NxD[:k].copy())
    one, other = (
        kmeans.fit(x_NxD, 4, seed, "minibatch", iterations=3, batch_size=64) for seed in (0, 1)
    )
    assert np.abs(one.centroids_KxD - other.centroids_KxD).max() > 1e-3


def test_empty_clusters_take_different_far_rows_that_are_on_no_centroid():
    x_NxD = np.float32([[0, 0], [9, 0], [9, 0], [0, 5], [1, 0]])
    centroids_KxD = np.float32([[0, 0], [7, 7], [7, 7], [7, 7], [7, 7], [7, 7]])
    distance_N = np.linalg.norm(x_NxD, axis=1)
    moved = kmeans._reseed(centroids_KxD, np.array([5, 0, 0, 0, 0, 0]), x_NxD, distance_N)
    assert moved == 3  # of five empty ones: three different rows are off the centroid
    np.testing.assert_array_equal(centroids_KxD[1:4], [[9, 0], [0, 5], [1, 0]])
    np.testing.assert_array_equal(centroids_KxD[4:], 7)


def test_the_sample_is_of_the_seed_and_of_different_rows():
    x_NxD = np.arange(100, dtype=np.float32)[:, None]
    one, again, other = (kmeans.sample(x_NxD, 30, seed)[:, 0] for seed in (0, 0, 1))
    assert len(set(one)) == 30 and one.tolist() == again.tolist() != other.tolist()


def test_lower_levels_of_a_tree_are_of_the_seed(monkeypatch):
    """With the first level of one and the same seed."""
    x_NxD, fit = rows(3, 800, 4), kmeans.fit
    monkeypatch.setattr(kmeans, "fit", lambda x, k, seed, *a, **b: fit(x, k, 0, *a, **b))
    one, again, other = (tree.fit(x_NxD, (2, 5), seed, iterations=1) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.centroids[0], other.centroids[0])
    np.testing.assert_array_equal(one.centroids[1], again.centroids[1])
    assert np.abs(one.centroids[1] - other.centroids[1]).max() > 1e-3


def test_more_iterations_lower_the_inertia_of_every_level():
    x_NxD = rows(4, 800, 4)
    few, many = (tree.fit(x_NxD, (2, 5), 0, iterations=n) for n in (1, 30))
    assert many.inertia[0] < few.inertia[0] and many.inertia[1] < few.inertia[1]
    leaf_N, distance_N = tree.assign(x_NxD, many)
    assert many.inertia[1] == pytest.approx(
        np.square(distance_N.astype(np.float64)).sum(), rel=1e-5
    )
    assert many.rows == 800


def test_ancestors_and_numbers_of_nodes():
    leaf_N = np.arange(24)
    assert [levels.nodes((2, 3, 4), level) for level in (0, 1, 2, 3)] == [24, 2, 6, 24]
    np.testing.assert_array_equal(levels.ancestors(leaf_N, (2, 3, 4), 1), leaf_N // 12)
    np.testing.assert_array_equal(levels.ancestors(leaf_N, (2, 3, 4), 2), leaf_N // 4)
    assert levels.of_size((2, 3, 4), 6, "k") == 2


REPORT = weights.report(
    "med", np.array([4, 4, 2, 0]), np.array([1, 0, 2, 1]), 0.0, 30, budget=repetition.Budget(4.0)
)


def test_the_figures_of_a_report_by_hand():
    """Generic shares .4 .4 .2 0; specialist .25 0 .5 .25; drawn 1/3 0 2/3 0 of 30, capped at 4."""
    found = json.loads(json.dumps(REPORT.to_json()))
    assert found["entropy"] == pytest.approx(0.5 * np.log(4) + 0.5 * np.log(2))
    assert found["generic_entropy"] == pytest.approx(-0.8 * np.log(0.4) - 0.2 * np.log(0.2))
    assert found["generic_windows"] == 10 and found["specialist_windows"] == 4
    assert found["top_fraction"] == 0.5 and found["uncovered"] == 0.25
    # 30 draws of 2.5, 0 and 10 times each window; the cap leaves 4 of the last, 22 go elsewhere.
    np.testing.assert_allclose(found["uncapped_repetitions"], [2.5, 0, 10, 0])
    np.testing.assert_allclose(np.dot(found["repetitions"], [4, 4, 2, 0]), 30)
    assert found["repetitions"][2] == pytest.approx(4) == found["cap"]
    assert found["moved_share"] == pytest.approx(12 / 30)
    np.testing.assert_allclose(found["sampling"], [1 / 3, 0, 2 / 3, 0])
    capped_K = np.array(found["capped_sampling"])
    assert capped_K[2] == pytest.approx(8 / 30) and capped_K.sum() == pytest.approx(1)
    rates_K = np.array(found["repetitions"])
    assert found["expected_repetitions"] == pytest.approx(capped_K @ rates_K)
    assert found["max_repetitions"] == pytest.approx(4)
    w_K = capped_K / np.array([0.4, 0.4, 0.2, 1])
    of_windows = np.repeat(w_K, [4, 4, 2, 0])
    effective = of_windows.sum() ** 2 / np.square(of_windows).sum()
    assert found["effective_sample_size"] == pytest.approx(effective)


def test_what_is_above_the_budget():
    found = repetition.expected(np.array([0.5, 0.3, 0.2]), np.array([10, 1, 4]), 20, 5.0)
    assert (found.mean, found.most) == (pytest.approx(0.5 + 0.3 * 6 + 0.2), pytest.approx(6))
    assert found.above == pytest.approx(0.3) and found.budget == 5
    assert repetition.expected(np.array([0.5, 0.3, 0.2]), np.array([10, 1, 4]), 20, 6.0).above == 0


def test_uniform_draws_are_their_part_of_all():
    budget = repetition.Budget(0.0, 0.25)
    mixed_K = budget.mixed(np.array([1.0, 0.0]), np.array([1, 3]))
    np.testing.assert_allclose(mixed_K, [0.25 * 0.25 + 0.75, 0.25 * 0.75])


def test_typical_windows_are_the_nearest_of_their_cluster():
    x_NxD = np.float32([[5, 0], [1, 0], [0, 9], [2, 0], [0, 8]])
    clusters = Clusters(np.float32([[0, 0], [0, 8]]), x_NxD, np.array([0, 0, 1, 0, 1]), {}, "c")
    assert clusters.typical(0, 2).tolist() == [1, 3] and clusters.typical(1, 5).tolist() == [4, 2]
    np.testing.assert_allclose(clusters.share_K, [0.6, 0.4])


def test_sampled_texts_are_of_the_seed():
    def read(start, stop):
        return [str(n) for n in range(start, stop)]

    one, again, other = (sample_texts(read, 10_000, seed=seed) for seed in (0, 0, 1))
    assert list(one) == list(again)
    assert len(set(one)) == len(one)


def test_the_start_of_k_means_is_of_the_seed():
    x_MxD = rows(6, 60)
    one, again, other = (
        np.asarray(kmeans.choose_start(x_MxD, jax.random.key(seed), 8, 60)) for seed in (0, 0, 1)
    )
    assert one.tolist() == again.tolist() != other.tolist() and len(set(one)) == 8


def test_the_windows_that_are_embedded_are_in_the_key(store, vocabulary):
    """Of a part of a store, as a specialist's windows are."""
    found = []

    class Noted:
        def run(self, name, inputs, work):
            found.append(fingerprint(inputs))
            raise StopIteration

    encoder = types.SimpleNamespace(fingerprint="encoder", dim=2)
    prepared = types.SimpleNamespace(vocabulary=vocabulary)
    for indices in (range(len(store)), np.array([0, 1]), np.array([0, 2])):
        with pytest.raises(StopIteration):
            clusters._embed(Noted(), "linalg", store, indices, prepared, encoder)
    assert len(set(found)) == 3
