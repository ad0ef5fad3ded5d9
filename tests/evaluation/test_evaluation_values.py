"""Values that a small mistake in evaluation would change: thresholds, places, sums."""

import numpy as np
import pytest

from specialm.evaluation import contamination, cost, ngrams, perplexity
from specialm.training.scoring import Score


def text_of(*numbers):
    return " ".join(f"word{n}" for n in numbers)


def test_a_copy_has_its_place_in_the_whole_training_text():
    """Beyond the first block of windows that are read at a time."""
    assert contamination.DECODED < 1500
    copy = text_of(*range(50))
    train = [text_of(*range(1000 + 20 * n, 1020 + 20 * n)) for n in range(1600)]
    train[1500] = copy
    found = contamination.find_contamination(train, ["another text altogether here", copy])
    assert found.leaked == [(1, 1500, 1.0)] and found.trained == 1600


@pytest.mark.parametrize(("threshold", "found"), [(0.8, 1), (0.81, 0)])
def test_a_pair_at_the_threshold_is_one(threshold, found):
    """9 single words, of which 8 are the other's too, of 10 in all: 8 / 10."""
    a, b = text_of(*range(9)), text_of(*range(8), 9)
    report = contamination.find_contamination([a], [b], threshold, shingle=1)
    assert len(report.leaked) == found
    if found:
        assert report.leaked == [(0, 0, pytest.approx(0.8))]


def test_a_part_of_a_training_window_at_the_threshold():
    """4 of the training window's 5 words, and no other: both shares are 4 / 5."""
    found = contamination.find_contamination([text_of(*range(5))], [text_of(*range(4))], 0.8, 1)
    assert found.leaked == [(0, 0, pytest.approx(0.8))]


def test_macro_perplexity_is_of_the_mean_loss():
    rows = perplexity.rows("m", "p", 0, 1, {"a": Score(2.0, 1, 1, 1), "b": Score(4.0, 1, 1, 1)})
    assert rows[-1]["perplexity"] == pytest.approx(np.exp(3))


def test_covered_at_the_threshold():
    """4 of 5 words of a window, in two training windows."""
    window = text_of(0, 1, 2, 3, 4)
    train = [text_of(0, 1, 90, 91, 92, 93), text_of(2, 3, 94, 95, 96, 97)]
    report = contamination.find_contamination(train, [window], 0.8, shingle=1)
    assert report.covered == [(0, pytest.approx(0.8))] and not report.leaked
    assert not contamination.find_contamination(train, [window], 0.81, shingle=1).covered


def test_the_nearest_and_first_training_window_is_named():
    window = text_of(*range(20))
    near = text_of(*range(18), 98, 99)
    found = contamination.find_contamination([near, window, window], [window], 0.6)
    assert found.leaked == [(0, 1, 1.0)]


def test_jaccard_of_sets():
    assert contamination.jaccard("a b c a b".split(), "a b d".split(), 1) == 0.5
    assert contamination.jaccard("a b c".split(), "a b c".split(), 2) == 1.0
    assert contamination.jaccard(["a"], ["a"], 2) == 0.0


def test_costs_by_hand():
    ledger = [
        {"phase": "pretrained", "flops": 5.0, "tokens": 10, "seconds": 2.0, "devices": 4},
        {"phase": "pretrained", "domain": "d", "flops": 7.0, "tokens": 1, "seconds": 3.0},
        {"phase": "finetuned", "domain": "d", "flops": 11.0, "tokens": 2, "seconds": 1.0},
    ]
    generic, special = cost.split(ledger)
    assert generic == cost.Cost(5.0, 10, 8.0) and special == cost.Cost(18.0, 3, 4.0)
    assert cost.total(generic, special, 3) == cost.Cost(59.0, 19, 20.0)
    assert cost.gpu_hours(0.4 * 312e12 * 3600 * 2) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ((0.0, 10.0), (25.0, 5.0), 6),  # 10 N > 25 + 5 N from N = 6 on (5 is a tie)
        ((0.0, 10.0), (24.0, 5.0), 5),
        ((30.0, 10.0), (1.0, 5.0), 1),
        ((0.0, 5.0), (1.0, 5.0), None),
        ((0.0, 5.0), (1.0, 9.0), None),
    ],
)
def test_from_how_many_domains_on_another_method_is_cheaper(a, b, want):
    costs = [tuple(cost.Cost(flops=part) for part in each) for each in (a, b)]
    assert cost.crossover(*costs) == want


def test_an_n_gram_model_by_hand():
    """Windows "1 2" and "1 3", the second counted twice; V = 4, discount 1/2, order 2."""
    tokens = np.array([[1, 2], [1, 3]])
    windows = ngrams.Windows(tokens, np.ones((2, 2), bool), 8)
    index = ngrams.NgramIndex(windows, 4, 2)
    counts = index.counts(np.array([1.0, 2.0]))
    p_NxL = index.probabilities(counts, index.places(windows), 0.5)
    # Order 1, of 6 tokens: 1 three times, 2 once, 3 twice; three kinds give 1.5 / 6 away.
    one = {1: 2.5 / 6 + 0.25 / 4, 2: 0.5 / 6 + 0.25 / 4, 3: 1.5 / 6 + 0.25 / 4}
    # After 1, three times: 2 once, 3 twice; two kinds give 1 / 3 away.
    want = [[one[1], 0.5 / 3 + one[2] / 3], [one[1], 1.5 / 3 + one[3] / 3]]
    np.testing.assert_allclose(p_NxL, want, rtol=1e-12)
    assert ngrams.bits_per_byte(np.array([0.5, 0.25]), 4) == pytest.approx(3 / 4)


def test_the_best_mixture_of_two_models():
    p_T, q_T = np.array([0.9, 0.1, 0.1]), np.array([0.1, 0.9, 0.9])
    mixed_T, share = ngrams.mixed(p_T, q_T, rounds=200)
    shares = np.linspace(0, 1, 10_001)
    best = shares[np.argmax([np.log(s * q_T + (1 - s) * p_T).sum() for s in shares])]
    assert share == pytest.approx(best, abs=1e-3)
    np.testing.assert_allclose(mixed_T, share * q_T + (1 - share) * p_T)


def test_scores_by_hand():
    score = Score(6.0, 3, 4, 1)
    assert score.nll_per_token == 2.0 and score.perplexity == pytest.approx(np.exp(2))
    assert score.bits_per_byte == pytest.approx(6 / np.log(2) / 4)
    rows = perplexity.rows("m", "p", 1, 9, {"a": score, "b": Score(8.0, 2, 4, 1)})
    assert rows[-1]["nll_per_token"] == 3.0 and rows[-1]["train_tokens"] == 9
