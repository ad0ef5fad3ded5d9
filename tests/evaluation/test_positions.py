"""Losses by position: sums against a loop, and the same total as scoring."""

import jax
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.evaluation import positions
from specialm.models import transformer
from specialm.training import runs, scoring, sharding, step


def test_ranges_are_powers_of_two_and_the_end():
    assert positions.edges(16) == [1, 2, 4, 8, 16]
    assert positions.edges(24) == [1, 2, 4, 8, 16, 24]
    assert positions.edges(1) == [1]


def test_sums_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    sizes_N = np.array([5, 3, 1])
    nll_NxL, bytes_NxL = rng.random((3, 6)), rng.integers(1, 5, (3, 6))
    mask_NxL = np.arange(6) < sizes_N[:, None]
    found = positions.of_losses(nll_NxL, mask_NxL, bytes_NxL, [1, 2, 4, 6])
    for each in found:
        places = [
            (n, p) for n in range(3) for p in range(sizes_N[n]) if each.first <= p + 1 <= each.last
        ]
        nll = sum(nll_NxL[place] for place in places)
        assert each.tokens == len(places)
        assert each.nll_per_token == pytest.approx(nll / len(places), rel=1e-12)
        total = sum(bytes_NxL[place] for place in places)
        assert each.bits_per_byte == pytest.approx(nll / np.log(2) / total, rel=1e-12)
    assert [(each.first, each.last) for each in found] == [(1, 1), (2, 2), (3, 4), (5, 6)]
    assert len(positions.of_losses(nll_NxL, mask_NxL & (np.arange(6) < 2), bytes_NxL, [2, 6])) == 1


def test_the_total_is_that_of_scoring(tiny_model, vocabulary, store, tmp_path):
    params = transformer.init(tiny_model, jax.random.key(0))
    indices = np.arange(21)
    model = runs.Model(tmp_path, tiny_model, params, vocabulary, {})
    mesh = sharding.make_mesh(16)
    scored = scoring.score(step.make_score_step(tiny_model, mesh), params, store, indices, 16, mesh)
    found = positions.by_position(model, store, indices)
    assert sum(each.tokens for each in found) == scored.tokens
    total = sum(each.tokens * each.nll_per_token for each in found)
    assert total == pytest.approx(scored.nll, rel=1e-5)
    with pytest.raises(UserError, match="no windows to score"):
        positions.by_position(model, store, indices[:0])
