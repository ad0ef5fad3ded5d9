"""The Kneser-Ney model against its equations in plain Python."""

import collections

import numpy as np
import pytest
from evaluation.test_ngrams import V, texts, windows_of
from hypothesis import given
from hypothesis import strategies as st

from specialm.evaluation.kneser_ney import KneserNey


def plain(lists, order):
    """(context, token) -> probability, from dictionaries."""
    seen, before = collections.Counter(), collections.defaultdict(set)
    for number, tokens in enumerate(lists):
        for end in range(len(tokens)):
            for n in range(1, min(order, end + 1) + 1):
                gram = tuple(tokens[end - n + 1 : end + 1])
                seen[gram] += 1
                # The token before it; a window's beginning is a different one each time.
                before[gram].add(tokens[end - n] if end >= n else ("beginning", number))
    counts = {g: seen[g] if len(g) == order else len(before[g]) for g in seen}
    discounts = {}
    for n in range(1, order + 1):
        values = [count for gram, count in counts.items() if len(gram) == n]
        once, twice = values.count(1), values.count(2)
        discounts[n] = once / (once + 2 * twice) if once else 0.5

    def probability(context, token):
        lower = probability(context[1:], token) if context else 1 / V
        after = {g[-1]: c for g, c in counts.items() if g[:-1] == context}
        if not after:
            return lower
        discount, total = discounts[len(context) + 1], sum(after.values())
        own = {t: max(c - discount, 0) / total for t, c in after.items()}
        return own.get(token, 0) + (1 - sum(own.values())) * lower

    return probability


@given(texts, texts, st.integers(1, 4))
def test_probabilities_are_those_of_the_equation(known, scored, order):
    p_NxL = KneserNey.of(windows_of(known), V, order).probabilities(windows_of(scored))
    reference = plain(known, order)
    for row, tokens in enumerate(scored):
        for end, token in enumerate(tokens):
            context = tuple(tokens[max(0, end - order + 1) : end])
            assert p_NxL[row, end] == pytest.approx(reference(context, token), rel=1e-12, abs=1e-15)


@given(texts, texts, st.integers(1, 4))
def test_orders_that_know_a_context_are_counted(known, scored, order):
    found = KneserNey.of(windows_of(known), V, order).walked(windows_of(scored))[1]
    contexts = {()} | {
        tuple(tokens[start : start + n])
        for tokens in known
        for n in range(1, order)
        for start in range(len(tokens) - n)  # something follows
    }
    for row, tokens in enumerate(scored):
        for end in range(len(tokens)):
            before = [tuple(tokens[end - n : end]) for n in range(min(order, end + 1))]
            assert found[row, end] == sum(context in contexts for context in before)


@given(texts, st.lists(st.integers(0, V - 1), max_size=3), st.integers(1, 4))
def test_all_tokens_sum_to_one_pruned_or_not(known, context, least):
    model = KneserNey.of(windows_of(known), V, 3)
    windows = windows_of([[*context, token] for token in range(V)])
    for found in (model, model._at_least(least)):
        assert found.probabilities(windows)[:, len(context)].sum() == pytest.approx(1, abs=1e-12)


@given(texts)
def test_pruning_keeps_what_occurs_often(known):
    model = KneserNey.of(windows_of(known), V, 3)
    pruned = model._at_least(2)
    seen = collections.Counter(
        tuple(tokens[end - n + 1 : end + 1])
        for tokens in known
        for end in range(len(tokens))
        for n in range(1, min(3, end + 1) + 1)
    )
    often = [sum(1 for g, c in seen.items() if len(g) == n and c > 1) for n in (2, 3)]
    assert pruned.sizes == [model.sizes[0], *often]
    assert model._at_least(1).sizes == model.sizes


def test_pruned_to_a_size():
    rng = np.random.default_rng(0)
    model = KneserNey.of(windows_of(rng.integers(0, V, (400, 8)).tolist()), V, 5)
    small = model.pruned(model.num_bytes // 3)
    assert small.num_bytes <= model.num_bytes // 3 and 0 < small.sizes[1] <= model.sizes[1]
    assert small.sizes[0] == model.sizes[0] == V
    least = model.pruned(1)  # not possible: what remains are the single tokens
    assert least.sizes[1:] == [0, 0, 0, 0]
    assert least.probabilities(windows_of([[0, 1]]))[0, 0] > 0
