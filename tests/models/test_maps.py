"""Models of other sizes: by hand, and by what they compute."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bank import random_params

from specialm.common.errors import UserError
from specialm.models import maps, tensors, transformer

GPT2 = transformer.Config(
    vocab_size=23, context=6, num_layers=3, d_model=8, num_heads=4, d_ff=12, exits=(1,)
)
LLAMA = dataclasses.replace(
    GPT2,
    norm="rmsnorm",
    positions="rope",
    mlp="swiglu",
    biases=False,
    num_kv_heads=2,
    head_size=6,
    qk_norm=True,
)
SOURCES = {
    "gpt2": GPT2,
    "gpt2 untied": dataclasses.replace(GPT2, head="untied"),
    "llama": LLAMA,
    "llama untied": dataclasses.replace(LLAMA, head="untied"),
    "ngrams": dataclasses.replace(LLAMA, embedder="ngrams", ngram_rows=9),
}


def params_of(config, seed=0):
    """Numbers that are neither small nor alike; norms around 1."""
    params = random_params(transformer.declare(config), seed, np.float32)
    return jax.tree.map(lambda leaf: np.float32(0.3) * leaf + np.float32(0.1), params)


def logits_of(params, config, head="last"):
    inputs_BxL = jnp.asarray(np.arange(12).reshape(2, 6) % config.vocab_size)
    x_TxD = transformer.hidden(params, inputs_BxL, config, heads=(head,))[head]
    return np.asarray(x_TxD @ transformer.head_meets(params, config, head).T)


def same_shapes(params, config):
    wanted = jax.tree.map(lambda leaf: leaf.shape, transformer.abstract(config))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == wanted


# Width 8 -> 4: places 0, 2, 4, 6; hidden units 12 -> 8: 0, 1, 3, 4, 6, 7, 9, 10.
D, F = [0, 2, 4, 6], [0, 1, 3, 4, 6, 7, 9, 10]


def test_selection_by_hand_for_gpt2():
    """Of four heads the first and the third; two of three layers."""
    target = dataclasses.replace(GPT2, num_layers=2, d_model=4, num_heads=2, d_ff=8)
    params = params_of(GPT2)
    made = maps.MAPS["selection"].apply(params, GPT2, target, 0.0)
    same_shapes(made, target)
    heads, y = [0, 2], slice(2)
    attention, mlp = params["layers"]["attention"], params["layers"]["mlp"]
    wanted = {
        ("embed", "tokens"): params["embed"]["tokens"][:, D],
        ("position", "table"): params["position"]["table"][:, D],
        ("layers", "norm1", "scale"): params["layers"]["norm1"]["scale"][y][:, D],
        ("layers", "norm2", "bias"): params["layers"]["norm2"]["bias"][y][:, D],
        ("layers", "attention", "qkv"): attention["qkv"][y][:, D][:, :, :, heads],
        ("layers", "attention", "qkv_bias"): attention["qkv_bias"][y][:, :, heads],
        ("layers", "attention", "out"): attention["out"][y][:, heads][..., D],
        ("layers", "attention", "out_bias"): attention["out_bias"][y][:, D],
        ("layers", "mlp", "up"): mlp["up"][y][:, D][:, :, F],
        ("layers", "mlp", "up_bias"): mlp["up_bias"][y][:, F],
        ("layers", "mlp", "down"): mlp["down"][y][:, F][:, :, D],
        ("heads", "last", "norm", "scale"): params["heads"]["last"]["norm"]["scale"][D],
        ("heads", "layer1", "norm", "bias"): params["heads"]["layer1"]["norm"]["bias"][D],
    }
    for path, array in wanted.items():
        np.testing.assert_array_equal(tensors.get(made, path), array, err_msg=str(path))


def test_selection_by_hand_for_grouped_queries():
    """Six heads in two groups of three -> three in one group... of the second: 0 of (0, 1), and
    of its queries 0, 1, 2 -> 0, 1."""
    source = dataclasses.replace(LLAMA, num_heads=6)
    target = dataclasses.replace(source, num_heads=2, num_kv_heads=1, d_model=4, exits=())
    params = params_of(source)
    made = maps.MAPS["selection"].apply(params, source, target, 0.0)
    same_shapes(made, target)
    qkv, out = (params["layers"]["attention"][name] for name in ("qkv", "out"))
    assert qkv.shape == (3, 8, 5, 2, 6) and out.shape == (3, 6, 6, 8)
    np.testing.assert_array_equal(
        made["layers"]["attention"]["qkv"], qkv[:, D][:, :, [0, 1, 3, 4]][:, :, :, [0]]
    )
    np.testing.assert_array_equal(made["layers"]["attention"]["out"], out[:, [0, 1]][..., D])
    assert set(made["heads"]) == {"last"}
    np.testing.assert_array_equal(
        made["layers"]["attention"]["q_norm"]["scale"],
        params["layers"]["attention"]["q_norm"]["scale"],
    )


def test_a_chosen_head_is_the_heads_own_numbers():
    """Heads of one model: query head j G + g reads group j. Zeroing all other heads of the source
    gives what the heads that were chosen compute."""
    source = dataclasses.replace(LLAMA, num_layers=1, exits=())
    target = dataclasses.replace(source, num_heads=2, num_kv_heads=2)  # the first of each group
    params = params_of(source)
    only = np.zeros((1, 4, 1, 1), np.float32)
    only[:, [0, 2]] = 1
    alone = tensors.updated(
        params, ("layers", "attention", "out"), params["layers"]["attention"]["out"] * only
    )
    made = maps.MAPS["selection"].apply(params, source, target, 0.0)
    np.testing.assert_allclose(
        logits_of(made, target), logits_of(alone, source), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_cloned_model_computes_the_same(name, noise):
    """All sizes at once: width times 2, hidden units times 3, groups times 2, queries times 3."""
    source = SOURCES[name]
    size, groups = source.size_of_head, 2 * source.kv_heads
    queries = 3 * source.num_heads // source.kv_heads
    target = dataclasses.replace(
        source, d_model=16, d_ff=36, num_kv_heads=groups, num_heads=groups * queries, head_size=size
    )
    params = params_of(source)
    made = maps.MAPS["hypercloning"].apply(params, source, target, noise)
    same_shapes(made, target)
    for head in ("last", "layer1"):
        wanted = logits_of(params, source, head)
        np.testing.assert_allclose(logits_of(made, target, head), wanted, rtol=2e-5, atol=5e-5)
    first, second = (made["layers"]["mlp"]["down"][:, rows] for rows in (slice(12), slice(12, 24)))
    assert np.array_equal(first, second) == (noise == 0.0)


@settings(max_examples=8)
@given(st.tuples(*[st.integers(1, 3)] * 4), st.sampled_from(sorted(SOURCES)))
def test_any_factors_keep_the_function(times, name):
    source = dataclasses.replace(SOURCES[name], exits=())
    groups = times[2] * source.kv_heads
    target = dataclasses.replace(
        source,
        d_model=8 * times[0],
        d_ff=12 * times[1],
        num_kv_heads=groups,
        num_heads=groups * times[3] * source.num_heads // source.kv_heads,
        head_size=source.size_of_head,
    )
    params = params_of(source, 1)
    made = maps.MAPS["hypercloning"].apply(params, source, target, 0.1)
    wanted = logits_of(params, source)
    np.testing.assert_allclose(logits_of(made, target), wanted, rtol=2e-5, atol=5e-5)


@pytest.mark.parametrize("name", SOURCES)
def test_first_layers_compute_what_they_did_before(name):
    """With the head after them where there is one, else the last: after all, the model itself."""
    source, params = SOURCES[name], params_of(SOURCES[name])
    one = dataclasses.replace(source, num_layers=1, exits=())
    made = maps.MAPS["first_layers"].apply(params, source, one, 0.0)
    same_shapes(made, one)
    np.testing.assert_allclose(logits_of(made, one), logits_of(params, source, "layer1"), rtol=1e-6)
    two = dataclasses.replace(source, num_layers=2)
    made = maps.MAPS["first_layers"].apply(params, source, two, 0.0)
    same_shapes(made, two)
    np.testing.assert_array_equal(
        made["heads"]["last"]["norm"]["scale"], params["heads"]["last"]["norm"]["scale"]
    )


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("selection", {"d_model": 9, "head_size": 2}, "model.d_model=9: must be at most 8"),
        ("selection", {"num_layers": 4}, "model.num_layers=4: must be at most 3"),
        ("selection", {"head_size": 4}, "model.head_size=4: heads stay whole, with 2 numbers"),
        ("selection", {"num_heads": 8, "head_size": 2}, "groups of heads=8: must be at most 4"),
        ("hypercloning", {"d_ff": 18}, "model.d_ff=18: must be a multiple of 12"),
        ("hypercloning", {"num_layers": 6}, "makes a model wider, not deeper"),
        ("first_layers", {"d_ff": 6}, "model.d_ff=6: must be as it is, 12"),
    ],
)
def test_sizes_that_a_map_cannot_give_are_named(method, changes, message):
    with pytest.raises(UserError, match=message):
        maps.MAPS[method].check(GPT2, dataclasses.replace(GPT2, **changes))


@pytest.mark.parametrize(
    "method,part,message",
    [
        ("hypercloning", {"embedder": "scaled_tokens"}, "model.embedder='scaled_tokens': hyperc"),
        ("hypercloning", {"norm": "rmsnorm_plus1"}, "model.norm='rmsnorm_plus1': hypercloning has"),
        ("selection", {"share": ("mlp:all",)}, r"model.share=\('mlp:all',\): layers that share"),
        ("first_layers", {"share": ("mlp:all",)}, r"model.share=\('mlp:all',\): layers that share"),
    ],
)
def test_parts_that_a_map_cannot_give_are_named(method, part, message):
    source = dataclasses.replace(GPT2, **part)
    with pytest.raises(UserError, match=message):
        maps.MAPS[method].check(source, source)
