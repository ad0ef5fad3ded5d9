import needs
import numpy as np
import pytest
from scipy import stats

from specialm.clustering import repetition
from specialm.common.errors import UserError
from specialm.data import tasks
from specialm.data.sampler import Sampler

pytestmark = needs.SEQIO
CONTEXT, K = 16, 6
PROBABILITY = np.array([0.45, 0.0, 0.3, 0.15, 0.08, 0.02])


@pytest.fixture(scope="module")
def clusters(store):
    """Windows of equal text share their cluster, so that a window's text tells its cluster."""
    _, text_N = np.unique(store.read(np.arange(len(store))), axis=0, return_inverse=True)
    rng = np.random.default_rng(5)
    return rng.integers(0, K, text_N.max() + 1)[text_N], PROBABILITY


def read(name, count):
    import seqio

    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length={"targets": CONTEXT}, split="train", shuffle=False, num_epochs=None
    )
    return [example["targets"].tolist() for example in dataset.take(count).as_numpy_iterator()]


def windows_of(store):
    return [
        row[:size].tolist()
        for row, size in zip(store.read(np.arange(len(store))), store.sizes_N, strict=True)
    ]


def test_a_task_gives_every_window_in_order(store, vocabulary):
    name = tasks.register("plain", store, vocabulary.path)
    assert name == "specialm_plain"
    assert read(name, len(store)) == windows_of(store)


def test_the_weighted_task_is_the_trainers_stream_and_follows_the_weights(
    store, vocabulary, clusters
):
    cluster_N, probability_K = clusters
    count = 6000
    name = tasks.register_weighted(
        "weighted", store, vocabulary.path, cluster_N, probability_K, seed=3, windows=count
    )
    seen = read(name, count)
    expected = Sampler(len(store), 8, 3, cluster_N, probability_K)
    drawn = np.concatenate([expected.indices(step) for step in range(count // 8)])
    every = windows_of(store)
    assert seen == [every[i] for i in drawn]
    assert_follows(seen, store, cluster_N, probability_K)


def test_a_capped_task_draws_no_window_more_often(store, vocabulary, clusters):
    cluster_N, probability_K = clusters
    counts_K, count = np.bincount(cluster_N, minlength=K), len(store) // 2
    capped_K = repetition.capped(probability_K, counts_K, count, 1.0).probability_K
    name = tasks.register_weighted(
        "capped", store, vocabulary.path, cluster_N, capped_K, 3, windows=count, epoch=count
    )
    sampler = Sampler(len(store), 8, 3, cluster_N, capped_K, epoch=count)
    drawn, every = sampler.draws(0, count)[0], windows_of(store)
    assert len(np.unique(drawn)) == count
    assert read(name, count) == [every[i] for i in drawn]


def test_a_task_replays_the_generic_text(store, vocabulary, clusters):
    cluster_N, probability_K = clusters
    arguments = (store, vocabulary.path, cluster_N, probability_K, 3)
    name = tasks.register_weighted("replayed", *arguments, windows=3000, replay=0.4)
    share_K = np.bincount(cluster_N, minlength=K) / len(store)
    assert_follows(read(name, 3000), store, cluster_N, 0.6 * probability_K + 0.4 * share_K)


def assert_follows(seen, store, cluster_N, probability_K):
    """Chi-square of the clusters of examples against the distribution."""
    cluster_of = {tuple(w): c for w, c in zip(windows_of(store), cluster_N, strict=True)}
    counts = np.bincount([cluster_of[tuple(w)] for w in seen], minlength=K)
    kept = probability_K > 0
    assert counts[~kept].sum() == 0
    assert stats.chisquare(counts[kept], probability_K[kept] * len(seen)).pvalue > 1e-3, counts


def test_errors(store, vocabulary, clusters, tmp_path, real_documents):
    from specialm.data import vocabularies

    tasks.register("twice", store, vocabulary.path)
    with pytest.raises(UserError, match="'specialm_twice' already"):
        tasks.register("twice", store, vocabulary.path)
    other = vocabularies.train(real_documents, tmp_path, 400)
    with pytest.raises(UserError, match="written with vocabulary"):
        tasks.register("other", store, other.path)
