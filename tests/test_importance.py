"""`specialm.ImportanceWeights` against the pipeline, and its docstring's example."""

import doctest

import conftest
import numpy as np
import pytest
from sklearn.base import clone

import specialm
from specialm import config as config_lib
from specialm import importance
from specialm.clustering.clusters import read_texts
from specialm.common.errors import UserError
from specialm.common.stages import Stages
from specialm.workflows import pipeline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the pipeline's run, texts of the generic windows, texts of the specialist's)."""
    root = tmp_path_factory.mktemp("importance")
    conftest.write_docstrings(root)
    (root / "config.py").write_text(conftest.BANK_CONFIG.format(root=root))
    config = config_lib.load(
        str(root / "config.py"),
        [
            "method=slm_is",
            "clustering.k=6",
            "clustering.iterations=50",
            "clustering.seed=3",
            "clustering.smoothing=0.1",
            "clustering.power=0.9",
            "clustering.max_repetitions=0",
        ],
    )
    found = pipeline.open_run(
        config, root / "run", ["linalg"], ("slm_is",), Stages(root / "run", quiet=True)
    )
    vocabulary, store = found.prepared.vocabulary, found.prepared.generic
    train = found.prepared.domains["linalg"]["train"]
    generic = read_texts(store, vocabulary, np.arange(len(store)))
    special = read_texts(train, vocabulary, train.subset(config.data.specialist_tokens))
    return found, generic, special


def fitted(run, **changes):
    found, generic, special = run
    settings = dict(
        k=6, dim=8, smoothing=0.1, power=0.9, max_repetitions=2.0, seed=3,
        budget=found.config.train.tokens,
    )  # fmt: skip
    context = found.config.data.context
    weights = specialm.ImportanceWeights(**settings | changes)
    return weights.fit(generic, special, [context] * len(generic))


def test_it_is_what_the_pipeline_computes(run):
    """Clusters, weights, cap, effective sample, repetitions and draws, for the same windows."""
    found, generic, special = run
    cap = 0.9 * max(pipeline.weigh(found, "linalg").to_json()["repetitions"])
    weights, clusters = fitted(run, max_repetitions=cap), found.clusters("slm_is")
    np.testing.assert_array_equal(weights.cluster_centers_, clusters.centroids_KxD)
    np.testing.assert_array_equal(weights.labels_, clusters.generic_N)
    away_NxKxD = weights.encoder_.encode(generic)[:, None] - weights.cluster_centers_
    np.testing.assert_array_equal((away_NxKxD**2).sum(-1).argmin(-1), weights.labels_)
    report = pipeline.weigh(found, "linalg", cap=cap)
    assert report.capped.moved  # the cap has cut something off
    assert weights.report_.to_json() == {**report.to_json(), "domain": "specialist"}
    np.testing.assert_array_equal(weights.histogram_, report.specialist_K)
    drawn_K = report.drawn_K / report.generic_K
    np.testing.assert_allclose(weights.weights_, drawn_K[clusters.generic_N])
    assert weights.weights_.mean() == pytest.approx(1)
    assert weights.effective_sample_size_ == report.effective_sample_size
    assert weights.repetitions(found.config.train.tokens) == report.repetitions
    np.testing.assert_array_equal(weights.predict(generic), weights.weights_)
    rows = weights.sample(report.planned_windows, seed=1)
    drawn = np.bincount(weights.labels_[rows], minlength=6) / len(rows)
    np.testing.assert_allclose(drawn, report.drawn_K, atol=1.01 / len(rows))
    assert np.bincount(rows).max() <= np.ceil(cap)


def test_without_a_budget_nothing_is_capped_and_folders_are_read(run, tmp_path):
    _, generic, special = run
    for name, texts in (("generic", generic), ("special", special)):
        (tmp_path / name).mkdir()
        for i, text in enumerate(texts):
            (tmp_path / name / f"{i:05d}.txt").write_text(text)
    weights = specialm.ImportanceWeights(k=6, dim=8, max_repetitions=2.0, seed=3)
    weights.fit(str(tmp_path / "generic"), tmp_path / "special")
    kept = [text for text in generic if text.strip()]
    assert len(weights.weights_) == len(kept)
    assert not weights.report_.capped.moved
    ratio = weights.histogram_ / weights.generic_histogram_
    np.testing.assert_allclose(weights.cluster_weights_, ratio)
    sizes = [len(text.encode()) for text in kept]
    assert weights.tokens_per_text_ == pytest.approx(np.mean(sizes) / 4, rel=0.02)
    assert clone(weights).get_params() == weights.get_params()


def test_wrong_parameters_are_named(run):
    _, generic, special = run
    for changes, message in (
        ({"k": 0}, "k=0: must be from 1 to"),
        ({"max_repetitions": -1}, "max_repetitions=-1"),
        ({"smoothing": 2.0}, "smoothing=2.0"),
        ({"encoder": "bert"}, "encoder='bert': must be minilm or tfidf_svd"),
    ):
        with pytest.raises(UserError, match=message):
            fitted(run, **changes)
    weights = specialm.ImportanceWeights(k=2, dim=8)
    for given, message in (
        (([], special), "generic: there are no texts"),
        ((generic, [3]), "specialist: holds int, not texts"),
        ((generic, special, [1, 2]), "2 numbers of tokens for"),
        (("no/such/place", special), "no such file or folder"),
    ):
        with pytest.raises(UserError, match=message):
            weights.fit(*given)


def test_its_example_runs():
    examples = [each for each in doctest.DocTestFinder().find(importance) if each.examples]
    assert len(examples) == 1
    assert doctest.DocTestRunner().run(examples[0]).failed == 0
