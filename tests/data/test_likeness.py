"""DSIR's importance weights against the paper's formula, in plain Python; Gumbel top-k."""

import itertools
import math
import re
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from specialm.data import likeness
from specialm.data.likeness import Likeness

SPECIAL = ["the heart pumps blood", "blood flows; the heart beats."]
GENERIC = ["the cat sat on the mat", "The HEART beats, blood flows", "a b c", "", "x"]


def ngrams(text):
    """Words and punctuation in lower case, then pairs: nltk's WordPunctTokenizer."""
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    return words + [f"{a} {b}" for a, b in itertools.pairwise(words)]


def bucket(ngram):
    return zlib.crc32(ngram.encode()) % 10_000


def shares(texts):
    """gamma of equation 3: the share of all n-grams in each bucket."""
    found = [bucket(ngram) for text in texts for ngram in ngrams(text)]
    return {j: found.count(j) / len(found) for j in set(found)}


def test_weights_are_the_ratio_of_two_bags_of_ngrams():
    p, q = shares(SPECIAL), shares(GENERIC)
    want = [
        sum(
            math.log(p.get(bucket(g), 0.0) + 1e-8) - math.log(q.get(bucket(g), 0.0) + 1e-8)
            for g in ngrams(text)
        )
        for text in GENERIC
    ]
    ratio_J = likeness.log_ratio(likeness.counts(SPECIAL), likeness.counts(GENERIC))
    found_N, sizes_N = likeness.log_weights(GENERIC, ratio_J)
    np.testing.assert_allclose(found_N, want, rtol=1e-12, atol=1e-12)
    assert sizes_N.tolist() == [len(ngrams(text)) for text in GENERIC]
    assert found_N.argmax() == 3 or found_N[3] > found_N[0]  # the one like the domain


@given(st.text(max_size=60))
def test_counts_are_of_every_ngram(text):
    assert sorted(likeness.buckets(text)) == sorted(map(bucket, ngrams(text)))
    assert likeness.counts([text, text]).sum() == 2 * len(ngrams(text))


def plackett_luce(weights, chosen):
    """Probability that these are drawn, in any order, without replacement in proportion to w."""
    total = 0.0
    for order in itertools.permutations(chosen):
        left, p = sum(weights), 1.0
        for i in order:
            p *= weights[i] / left
            left -= weights[i]
        total += p
    return total


@pytest.mark.parametrize("k", [1, 2])
def test_gumbel_top_k_draws_without_replacement(k):
    weights, trials = [4.0, 2.0, 1.0, 0.5], 4000
    sets = list(itertools.combinations(range(4), k))
    counted = dict.fromkeys(sets, 0)
    for seed in range(trials):
        counted[tuple(likeness.gumbel_top_k(np.log(weights), k, seed).tolist())] += 1
    want = [trials * plackett_luce(weights, each) for each in sets]
    assert stats.chisquare([counted[each] for each in sets], want).pvalue > 1e-3


def test_a_seed_draws_the_same_and_all_are_drawn_in_the_end():
    log_weight_N = np.random.default_rng(0).normal(size=50)
    one, again, other = (likeness.gumbel_top_k(log_weight_N, 20, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(other) and len(set(one)) == 20
    assert likeness.gumbel_top_k(log_weight_N, 50, 0).tolist() == list(range(50))


def made(sizes=(3, 5, 2), near=(0.1, -1.0, 0.5)):
    source_N = np.repeat(np.arange(len(sizes)), sizes)
    ngrams_N = np.arange(len(source_N)) + 1
    return Likeness(ngrams_N * np.array(near)[source_N], ngrams_N, source_N, ("a", "b", "c"))


def test_sources_by_the_mean_of_their_ngrams():
    np.testing.assert_allclose(made().by_source, [0.1, -1.0, 0.5])
    assert likeness.nearest_sources(made(), 1) == [2]
    assert likeness.nearest_sources(made(), 2) == [2]
    assert likeness.nearest_sources(made(), 3) == [2, 0]
    assert likeness.nearest_sources(made(), 5) == [2, 0]
    assert likeness.nearest_sources(made(), 6) == [2, 0, 1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=3), st.data())
def test_near_sources_have_windows_enough_and_not_one_source_too_many(sizes, data):
    of = made(tuple(sizes))
    k = data.draw(st.integers(1, sum(sizes)))
    chosen = likeness.nearest_sources(of, k)
    assert sum(sizes[s] for s in chosen) >= k > sum(sizes[s] for s in chosen[:-1])


def test_it_is_read_as_it_was_written(tmp_path):
    of = made()
    of.save(tmp_path / "likeness.npz")
    again = Likeness.load(tmp_path / "likeness.npz")
    assert again.sources == of.sources
    for name in ("log_weight_N", "ngrams_N", "source_N"):
        np.testing.assert_array_equal(getattr(again, name), getattr(of, name))
