"""The bootstrap of a histogram against its closed form, and words of clusters by hand."""

import math

import numpy as np
import pytest

from specialm.clustering import keywords, repetition, sampling_error, weights
from specialm.clustering.repetition import Budget

GENERIC = np.array([400, 300, 200, 100])


def report(cluster_N, cap=0.0):
    counts_K = weights.counts(cluster_N, 4)
    return weights.report("med", GENERIC, counts_K, 0.0, 2000, budget=Budget(cap))


def estimate(cluster_N, document_N, cap=0.0):
    return sampling_error.estimate(report(cluster_N, cap), cluster_N, document_N)


def clusters(windows):
    return np.random.default_rng(0).choice(4, windows, p=[0.5, 0.3, 0.2, 0.0])


@pytest.mark.parametrize("alike", [1, 5])
def test_deviations_are_those_of_a_multinomial_over_documents(alike):
    """With `alike` equal windows a document there are that many times fewer draws."""
    cluster_d = clusters(200)
    cluster_N, document_N = np.repeat(cluster_d, alike), np.repeat(np.arange(200), alike)
    found_uxK = sampling_error.histograms(cluster_N, document_N, 4, resamples=4000)
    share_K = np.bincount(cluster_d, minlength=4) / 200
    np.testing.assert_allclose(found_uxK.mean(axis=0), share_K, atol=0.003)
    np.testing.assert_allclose(
        found_uxK.std(axis=0), np.sqrt(share_K * (1 - share_K) / 200), rtol=0.06
    )
    found = estimate(cluster_N, document_N)
    assert found.documents == 200
    assert (found.low_K <= share_K).all() and (share_K <= found.high_K).all()
    # E|x| of a normal deviate is sqrt(2 / pi) of its deviation.
    wanted = 0.5 * math.sqrt(2 / math.pi) * np.sqrt(share_K * (1 - share_K) / 200).sum()
    assert found.distance == pytest.approx(wanted, rel=0.1)
    assert found.distance < found.distance_high


def test_names_of_documents_do_not_matter():
    cluster_N, document_N = clusters(60), np.arange(60) // 2
    first, other = (estimate(cluster_N, d) for d in (document_N, 1000 - 7 * document_N))
    assert first.documents == other.documents == 30
    assert first.unseen == other.unseen


def test_the_effective_sample_lies_in_its_interval_also_under_a_cap():
    cluster_N = clusters(300)
    for cap in (0.0, 3.0):
        found, made = estimate(cluster_N, np.arange(300), cap), report(cluster_N, cap)
        share = made.effective_sample_size / GENERIC.sum()
        assert found.sample_low <= share <= found.sample_high
        assert found.sample_high - found.sample_low < 0.2


def test_unseen_mass_counts_clusters_of_one_document():
    """Good and Turing: 3 of 10 windows are in clusters that one document alone reached."""
    cluster_N = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 2])
    document_N = np.array([1, 2, 3, 4, 5, 6, 7, 1, 1, 2])
    assert estimate(cluster_N, document_N).unseen == pytest.approx(0.3)


def test_repeated_text_is_worth_less_the_more_often():
    """Equation 5 of arXiv 2305.16264, written out."""
    tokens, repeated = 1000.0, np.array([0.0, 0.5, 1.0, 4.0, 100.0])
    found = repetition.worth(repeated, np.full(5, tokens))
    r = 15.387756
    wanted = [0, 500, 1000, *(tokens + tokens * r * (1 - math.exp(-(e - 1) / r)) for e in (4, 100))]
    np.testing.assert_allclose(found, wanted)
    assert found[3] > 0.9 * 4 * tokens and found[4] < 17 * tokens


def test_words_tell_a_cluster_from_the_rest():
    ships = [f"the ship sails number {n}" for n in range(10)]
    cats = [f"the cat sleeps number {n}" for n in range(10)]
    rest = [f"the {word} number {n}" for n in range(60) for word in ("law", "court", "judge")]
    of_ships, of_cats = keywords.of_groups([ships, cats], rest, 5)
    assert set(of_ships) == {"ship", "sails"}  # neither "the", which all have, nor numbers
    assert set(of_cats) == {"cat", "sleeps"}


def test_words_of_nothing_are_none():
    assert keywords.of_groups([[], [""]], [], 3) == [[], []]
