import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from specialm.specialize import choice


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_halving_keeps_the_better_half_of_each_round_until_one_is_left(k, seed):
    rng = np.random.default_rng(seed)
    order, nats_RxK = rng.permutation(k).tolist(), rng.random((10, k))
    calls = []

    def tune(expert, number):
        calls.append((number, expert))
        return nats_RxK[number, expert]

    rounds = choice.halve(order, tune)
    assert rounds[0] == order[: (k + 1) // 2]
    assert len(rounds[-1]) == 1
    for number, (before, after) in enumerate(zip(rounds, rounds[1:], strict=False), start=1):
        assert len(after) < len(before)
        assert len(after) == len(before) // 2 or len(after) == (len(before) + 1) // 2
        best_first = sorted(before, key=lambda expert: nats_RxK[number, expert])
        assert after == best_first[: len(after)]
    # Every expert of a round is tuned once in it; the one that is left not once more.
    assert calls == [
        (number, expert)
        for number, experts in enumerate(rounds[:-1], start=1)
        for expert in experts
    ]
    assert len(calls) == sum(map(len, rounds[:-1]))


def test_halving_sixteen_costs_fourteen_tunings():
    """8 + 4 + 2; finetune_all would cost 16, with more steps each."""
    calls = []
    rounds = choice.halve(list(range(16)), lambda expert, number: calls.append(1) or -expert)
    assert [len(experts) for experts in rounds] == [8, 4, 2, 1]
    assert rounds[-1] == [7]  # the best of the eight that the order let in
    assert len(calls) == 14


@given(st.integers(1, 20), st.integers(0, 2**31))
def test_the_most_frequent_trained_expert(k, seed):
    rng = np.random.default_rng(seed)
    probability_k = rng.random(k) * (rng.random(k) < 0.6)
    assume(probability_k.any())
    histogram_k = rng.multinomial(30, rng.dirichlet(np.ones(k))) / 30
    trained = [expert for expert in range(k) if probability_k[expert] > 0]
    expert = choice.most_frequent(histogram_k, probability_k)
    assert expert == max(trained, key=lambda e: (histogram_k[e], -e))  # the first of equals


def test_an_untrained_expert_is_never_taken():
    assert choice.most_frequent(np.array([0.1, 0.9, 0.0]), np.array([0.5, 0.0, 0.5])) == 0
    # Not even when the specialist set lies wholly in clusters without generic text.
    assert choice.most_frequent(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])) == 2


@pytest.mark.parametrize(("expert", "k"), [(0, 1), (2, 5)])
def test_one_hot(expert, k):
    histogram_k = choice.one_hot(expert, k)
    assert histogram_k.shape == (k,) and histogram_k.sum() == 1 and histogram_k[expert] == 1
