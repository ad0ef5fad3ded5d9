"""Pseudo-likelihood, against a loop that hides one token after the other."""

import dataclasses

import jax
import numpy as np
import pytest

from specialm.models import transformer
from specialm.models.placement import WHOLE
from specialm.training import pseudo, scoring, sharding, step
from specialm.training.objectives import MASK


@pytest.fixture(scope="module")
def bert(tiny_model):
    config = dataclasses.replace(tiny_model, causal=False)
    params = jax.jit(transformer.init, static_argnums=0)(config, jax.random.key(0))
    return config, jax.tree.map(lambda leaf: 3 * np.asarray(leaf), params)


logits = jax.jit(transformer.logits, static_argnums=2)
token_nll = jax.jit(pseudo.token_nll, static_argnums=(3, 4, 5))


def hidden_in_turn(params, config, tokens_L, size, turns):
    """-log p of each of the first `size` tokens."""
    found = np.zeros(len(tokens_L))
    mask = (np.arange(len(tokens_L)) < size).astype(np.float32)[None]
    for turn in range(turns):
        where = np.arange(len(tokens_L)) % turns == turn
        inputs = np.where(where, MASK, tokens_L)[None]
        log_p = jax.nn.log_softmax(logits(params, inputs, config, mask)[0])
        nll = -np.take_along_axis(np.asarray(log_p), tokens_L[:, None], 1)[:, 0]
        found[where] = nll[where]
    return found[:size]


def test_each_token_is_hidden_once(bert, store):
    config, params = bert
    batch = store.batch(np.arange(3))
    sizes = store.sizes_N[:3]
    for turns in (0, pseudo.FEW):
        found = token_nll(params, batch["targets"], batch["mask"], config, WHOLE, turns)
        for row in range(3):
            wanted = hidden_in_turn(
                params, config, batch["targets"][row], sizes[row], turns or config.context
            )
            np.testing.assert_allclose(found[row, : sizes[row]], wanted, rtol=2e-4)


def test_a_masked_model_is_scored_by_it(bert, store):
    config, params = bert
    mesh, indices = sharding.make_mesh(8), np.arange(5)
    score_step = step.make_score_step(config, mesh)
    scored = scoring.score(score_step, params, store, indices, 4, mesh)
    batch = store.batch(indices)
    nll = token_nll(params, batch["targets"], batch["mask"], config, WHOLE, 0)
    assert scored.nll == pytest.approx(float((nll * batch["mask"]).sum()), rel=1e-5)
    assert scored.tokens == int(store.sizes_N[:5].sum())


def test_passes(tiny_model, bert):
    assert pseudo.passes(tiny_model) == 1
    assert [pseudo.passes(bert[0], turns) for turns in (0, 7, 99)] == [16, 7, 16]
