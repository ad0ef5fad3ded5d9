"""Pieces as the means of their bytes, read and written, against NumPy, one piece at its own length."""

import dataclasses

import jax
import numpy as np
import pytest
from test_byte_pieces import (
    CODES,
    CONFIG,
    LLAMA,
    LOGITS,
    PIECES,
    decoded,
    float64,
    make_params,
    run_blocks,
)

from specialm.models import decoder, transformer
from specialm.models.as_table import as_table
from specialm.models.parts import pieces, pooled

OWN = dataclasses.replace(LLAMA, head="tied", embed_rank=3)
GPT2 = dataclasses.replace(CONFIG, head="tied", byte_layers=1)
PLUS1 = dataclasses.replace(OWN, norm="rmsnorm_plus1", byte_layers=0, exits=(0,))
FACTORED = dataclasses.replace(GPT2, embedder="factored", embed_rank=5)
CONFIGS = {"own": OWN, "gpt2": GPT2, "plus1": PLUS1, "factored": FACTORED}
CONFIGS |= {"untied": dataclasses.replace(OWN, head="untied")}
INPUTS = np.array([[6, 4, 0, 2, 8, 9], [3, 3, 8, 0, 4, 5]])


def vector(token, w, config):
    """Of one piece, in float64."""
    content = [c for c in CODES.get(token, [*(PIECES[token] or b"")]) if c != pieces.END]
    if not content:
        return None  # an id that no text gives
    x = w["bytes"][content] + w["places"][: len(content)]
    mean = run_blocks(w, x, config, causal=False).mean(0)
    return mean @ w["out"] + (w["own"][token] @ w["own_out"] if config.embed_rank else 0)


@pytest.mark.parametrize("name", ["own", "gpt2"])
def test_a_piece_is_the_mean_of_its_bytes_whatever_the_pads(name):
    config = CONFIGS[name]
    params = make_params(config)
    w = float64(params["embed"])
    embed = jax.jit(pooled.embed, static_argnums=2)
    # More tokens than pieces: every piece is read once. Fewer: every token is.
    for tokens in (np.arange(10).repeat(3).reshape(3, 10), np.array([[6, 4, 0, 2]])):
        found = embed(params["embed"], tokens, config)
        assert found.shape == (*tokens.shape, config.d_model)
        for one, token in zip(found.reshape(-1, config.d_model), tokens.reshape(-1), strict=True):
            if (wanted := vector(token, w, config)) is not None:
                np.testing.assert_allclose(one, wanted, atol=3e-5)


def test_logits_are_products_of_states_and_the_vectors_of_pieces():
    params = make_params(OWN)
    found = np.asarray(LOGITS(params, INPUTS, OWN)).reshape(-1, len(PIECES))
    states = jax.jit(transformer.hidden, static_argnums=2)(params, INPUTS, OWN)["last"]
    w = float64(params["embed"])
    for token in (0, 2, 4, 6, 9):
        wanted = np.asarray(states, np.float64) @ vector(token, w, OWN) / np.sqrt(OWN.d_model)
        np.testing.assert_allclose(found[:, token], wanted, atol=2e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_as_a_table_it_is_the_same_function_with_a_row_for_each_piece(name):
    params = make_params(CONFIGS[name])
    usual, config = as_table(params, CONFIGS[name])
    assert (config.embedder, config.head) == ("tokens", CONFIGS[name].head)
    shapes = [jax.tree.map(np.shape, usual)]
    shapes += [jax.tree.map(lambda leaf: leaf.shape, transformer.abstract(config))]
    assert shapes[0] == shapes[1]
    np.testing.assert_allclose(
        LOGITS(usual, INPUTS, config), LOGITS(params, INPUTS, CONFIGS[name]), atol=2e-5
    )
    again, same = as_table(usual, config)
    assert again is usual and same is config


def test_cached_decoding_is_the_full_forward_pass():
    params, tokens = make_params(OWN), INPUTS[:1]
    laid_out = decoder.laid_out(params, OWN)
    assert laid_out["embed"][pooled.ROWS].shape == (len(PIECES), OWN.d_model)
    found, wanted = decoded(laid_out, tokens, OWN), LOGITS(params, tokens, OWN)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_a_factored_table_is_a_product():
    params = make_params(FACTORED)
    w = float64(params["embed"])
    table = w["own"] @ w["own_out"]
    for tokens in (INPUTS, INPUTS[:1, :3]):
        embed = jax.jit(transformer.EMBEDDERS["factored"].apply, static_argnums=2)
        np.testing.assert_allclose(
            embed(params["embed"], tokens, FACTORED), table[tokens], atol=1e-6
        )
    states = jax.jit(transformer.hidden, static_argnums=2)(params, INPUTS, FACTORED)["last"]
    found = np.asarray(LOGITS(params, INPUTS, FACTORED)).reshape(len(states), -1)
    np.testing.assert_allclose(found, np.asarray(states, np.float64) @ table.T, atol=1e-5)
    assert transformer.params_by_part(FACTORED)["embed"] == table.shape[0] * 5 + 5 * 8


def test_own_numbers_begin_at_zero_and_learn():
    """A fresh model is its spelling alone; the first gradient moves what is a piece's own."""
    params = transformer.init(OWN, jax.random.key(0), PIECES)
    assert not np.any(params["embed"]["own"])
    mask = np.ones(INPUTS.shape, np.float32)
    loss = lambda params: transformer.loss(params, INPUTS, INPUTS[:, ::-1], mask, OWN)  # noqa: E731
    grads = jax.jit(jax.grad(loss))(params)["embed"]
    assert np.all(np.any(np.asarray(grads["own"]), axis=1))
    assert not np.any(grads["codes"])


@pytest.mark.parametrize("name", ["own", "factored"])
def test_bfloat16_is_close_and_gradients_stay_float32(name):
    config = dataclasses.replace(CONFIGS[name], dtype="bfloat16")
    params, mask = make_params(config), np.ones(INPUTS.shape, np.float32)
    loss = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4, static_argnames="config")
    found, grads = loss(params, INPUTS, INPUTS[:, ::-1], mask, config)
    wanted, exact = loss(params, INPUTS, INPUTS[:, ::-1], mask, CONFIGS[name])
    np.testing.assert_allclose(found, wanted, rtol=0.02)
    for ours, other in zip(jax.tree.leaves(grads), jax.tree.leaves(exact), strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - other).max() <= 0.1 * max(np.abs(other).max(), 0.1)


def test_flops_are_those_that_xla_counts():
    config = dataclasses.replace(
        OWN,
        attention="fused",
        d_model=64,
        d_ff=128,
        context=16,
        vocab_size=64,
        byte_size=32,
        byte_slots=8,
    )
    tokens = jax.ShapeDtypeStruct((4, 16), np.int32)  # as many as there are pieces
    nll = jax.jit(transformer.token_nll, static_argnums=3)
    compiled = nll.lower(transformer.abstract(config), tokens, tokens, config).compile()
    counted = compiled.cost_analysis()["flops"] / 64
    assert transformer.flops_per_token(config, train=False) == pytest.approx(counted, rel=0.15)
