"""The n-gram model against the equations in plain Python, and its use as a proxy."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specialm.evaluation import ngrams
from specialm.evaluation.ngrams import NgramIndex, Windows

V = 5


def windows_of(lists):
    """Windows of lists of tokens."""
    longest = max(map(len, lists))
    tokens_NxL = np.zeros((len(lists), longest), np.int64)
    mask_NxL = np.zeros((len(lists), longest), bool)
    for row, tokens in enumerate(lists):
        tokens_NxL[row, : len(tokens)], mask_NxL[row, : len(tokens)] = tokens, True
    return Windows(tokens_NxL, mask_NxL, sum(map(len, lists)))


def plain(lists, weights, order, discount):
    """(context, token) -> probability, from dictionaries."""
    counts = collections.Counter()
    for tokens, weight in zip(lists, weights, strict=True):
        for end in range(len(tokens)):
            for n in range(1, min(order, end + 1) + 1):
                counts[tuple(tokens[end - n + 1 : end + 1])] += weight
    followers = collections.defaultdict(list)
    for gram, count in counts.items():
        followers[gram[:-1]].append(count)

    def probability(context, token):
        lower = probability(context[1:], token) if context else 1 / V
        total = sum(followers.get(context, []))
        if not total:
            return lower
        cut = sum(min(count, discount) for count in followers[context])
        return (max(counts[(*context, token)] - discount, 0) + cut * lower) / total

    return probability


texts = st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=8), min_size=1, max_size=6)


@given(texts, texts, st.integers(1, 4), st.sampled_from([0.5, 0.75, 4.0]), st.data())
def test_probabilities_are_those_of_the_equation(known, scored, order, discount, data):
    weights = data.draw(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.0]), min_size=len(known), max_size=len(known))
    )
    index, windows = NgramIndex(windows_of(known), V, order), windows_of(scored)
    p_NxL = index.probabilities(index.counts(np.array(weights)), index.places(windows), discount)
    reference = plain(known, weights, order, discount)
    for row, tokens in enumerate(scored):
        for end, token in enumerate(tokens):
            context = tuple(tokens[max(0, end - order + 1) : end])
            assert p_NxL[row, end] == pytest.approx(reference(context, token), rel=1e-12)


@given(texts, st.lists(st.integers(0, V - 1), max_size=3))
def test_the_probabilities_of_all_tokens_sum_to_one(known, context):
    index = NgramIndex(windows_of(known), V, 3)
    counts = index.counts(np.ones(len(known)))
    windows = windows_of([[*context, token] for token in range(V)])
    p_NxL = index.probabilities(counts, index.places(windows))
    assert p_NxL[:, len(context)].sum() == pytest.approx(1, abs=1e-12)


def test_a_mixture_is_at_least_as_likely_as_either():
    rng = np.random.default_rng(0)
    p_T, q_T = rng.random(200), rng.random(200)
    mixture_T, share = ngrams.mixed(p_T, q_T, rounds=200)
    bits = ngrams.bits_per_byte(mixture_T, 100)
    others = [
        ngrams.bits_per_byte(s * q_T + (1 - s) * p_T, 100) for s in np.linspace(0.001, 0.999, 999)
    ]
    assert 0 < share < 1 and bits == pytest.approx(min(others), abs=1e-5)


def test_windows_of_a_store(store):
    windows = Windows.of(store, np.array([3, 1]))
    np.testing.assert_array_equal(windows.tokens_NxL, store.read(np.array([3, 1])))
    assert windows.mask_NxL.sum(1).tolist() == store.sizes_N[[3, 1]].tolist()
    assert windows.bytes == store.bytes_N[[3, 1]].sum()
