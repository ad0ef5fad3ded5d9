"""Held-out likelihood of draws against sums by hand, and what it chooses."""

import numpy as np
import pytest

from specialm.clustering import likelihood, weights
from specialm.clustering.repetition import Budget


def report(generic, cluster_N, **more):
    counts_K = np.bincount(cluster_N, minlength=len(generic))
    return weights.report("med", np.array(generic), counts_K, 0.0, 100, **more)


def test_two_documents_by_hand():
    """Each is scored by the other: document 0 has two windows of cluster 0, document 1 one of
    cluster 0 and one of 1. Half of a density is 1, as one document is known.
    """
    cluster_N, document_N = np.array([0, 0, 0, 1]), np.array([5, 5, 9, 9])
    made = report([25, 75], cluster_N)
    by_second = np.array([0.5 / 0.25, 0.5 / 0.75])  # 1/2 and 1/2
    by_first = np.array([1 / 0.25, 0.0])
    densities = [by_second[0], by_second[0], by_first[0], by_first[1]]
    wanted = -np.mean([np.log2(0.5 * each + 0.5) for each in densities])
    assert likelihood.bits(made, cluster_N, document_N) == pytest.approx(wanted)


def test_draws_like_the_generic_text_need_no_bits():
    cluster_N = np.array([0, 1, 0, 1, 0, 1])
    made = report([50, 50], cluster_N)
    assert likelihood.bits(made, cluster_N, np.arange(6) // 2) == pytest.approx(0, abs=1e-12)
    assert likelihood.bits(made, cluster_N, np.zeros(6)) == 0  # one document says nothing


def test_a_cap_costs_likelihood():
    """All windows are in a cluster of a tenth of the text: 3.3 bits fewer without a cap. With 100
    draws of 100 windows and a cap of 2 it has 0.2 of the draws, which is twice its share.
    """
    cluster_N, document_N = np.zeros(40, int), np.arange(40)
    free = likelihood.bits(report([10, 90], cluster_N), cluster_N, document_N)
    capped = likelihood.bits(report([10, 90], cluster_N, budget=Budget(2.0)), cluster_N, document_N)
    rest = 1 / 33  # of 32 documents
    assert free == pytest.approx(-np.log2((1 - rest) * 10 + rest))
    assert capped == pytest.approx(-np.log2((1 - rest) * 2 + rest))


def test_deeper_clusters_win_with_documents_enough_and_lose_with_few():
    """Text that lies in 4 of 64 leaves, one below each of 4 of 8 nodes."""
    rng = np.random.default_rng(0)
    leaf_of = np.array([0, 9, 18, 27])
    for documents, deeper in ((200, True), (3, False)):
        leaf_N = leaf_of[rng.integers(0, 4, documents)]
        if not deeper:  # each in a leaf of its own that no other document reaches
            leaf_N = np.array([0, 1, 9])[:documents]
        found = [
            likelihood.bits(
                report([10] * k, leaf_N // (64 // k)), leaf_N // (64 // k), np.arange(documents)
            )
            for k in (8, 64)
        ]
        assert (found[1] < found[0]) == deeper
