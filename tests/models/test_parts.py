"""Every choice of the tables of parts, alone and together, against NumPy in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpy_transformer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.common.errors import UserError
from specialm.models import check, decoder, lora, tensors, transformer
from specialm.models import loss as loss_lib

GPT2 = transformer.Config(vocab_size=23, context=12, num_layers=3, d_model=16, num_heads=4, d_ff=24)
LLAMA = dataclasses.replace(
    GPT2,
    norm="rmsnorm",
    positions="rope",
    mlp="swiglu",
    num_kv_heads=2,
    biases=False,
    head="untied",
)
QWEN = dataclasses.replace(LLAMA, qk_norm=True, head_size=6, rope_base=50.0, norm_epsilon=1e-3)
GEMMA = dataclasses.replace(
    QWEN,
    norm="rmsnorm_plus1",
    mlp="geglu",
    embedder="scaled_tokens",
    head="tied",
    post_norms=True,
    query_scalar=9,
    sliding_window=4,
    global_every=2,
    local_rope_base=7.0,
    rope_factor=2.0,
)
CONFIGS = {
    "gpt2": GPT2,
    "gemma": GEMMA,
    "llama": LLAMA,
    "qwen": QWEN,
    "one kv head": dataclasses.replace(GPT2, num_kv_heads=1),
    "bert": dataclasses.replace(GPT2, causal=False),
    "exits": dataclasses.replace(LLAMA, exits=(1, 2)),
    "ngrams": dataclasses.replace(LLAMA, embedder="ngrams", ngram_order=4, ngram_rows=37),
}
LOGITS = jax.jit(transformer.logits, static_argnums=2)
DECODE = jax.jit(decoder.decode, static_argnums=5)


def make_params(config, seed=0):
    """Parameters in which no tensor is at its special initial value (0 or 1)."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32),
        transformer.init(config, jax.random.key(seed)),
    )


def make_tokens(config, batch=2, length=11, seed=0):
    return np.random.default_rng(seed).integers(0, config.vocab_size, (batch, length))


@st.composite
def architectures(draw):
    groups, queries = draw(st.sampled_from([(1, 1), (1, 3), (2, 1), (2, 2)]))
    layers, causal = draw(st.integers(1, 3)), draw(st.booleans())
    return transformer.Config(
        vocab_size=7,
        context=9,
        num_layers=layers,
        d_model=groups * queries * 4,
        num_heads=groups * queries,
        d_ff=draw(st.integers(1, 9)),
        attention=draw(st.sampled_from(["blocked", "fused"])),
        norm=draw(st.sampled_from(["layernorm", "rmsnorm", "rmsnorm_plus1"])),
        post_norms=draw(st.booleans()),
        embedder=draw(st.sampled_from(["tokens", "scaled_tokens", "ngrams"])),
        ngram_order=draw(st.integers(2, 4)),
        ngram_rows=draw(st.integers(1, 50)),
        query_scalar=draw(st.sampled_from([0, 5])),
        sliding_window=draw(st.sampled_from([0, 1, 4, 20])) if causal else 0,
        global_every=draw(st.integers(0, 3)),
        local_rope_base=draw(st.sampled_from([10_000.0, 50.0])),
        positions=draw(st.sampled_from(["learned", "rope"])),
        rope_factor=draw(st.sampled_from([1.0, 2.5])),
        mlp=draw(st.sampled_from(["geglu", "gelu", "swiglu"])),
        num_kv_heads=groups,
        head_size=draw(st.sampled_from([0, 6])),
        qk_norm=draw(st.booleans()),
        biases=draw(st.booleans()),
        causal=causal,
        head=draw(st.sampled_from(["tied", "untied"])),
    )


@given(config=architectures(), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_any_architecture_is_that_of_numpy(config, seed):
    params, tokens = make_params(config, seed), make_tokens(config, 2, 9, seed)
    present = np.arange(9) < np.array([[9], [5]])
    logits = LOGITS(params, tokens, config, present.astype(np.float32))
    wanted = numpy_transformer.logits(params, tokens, config, present)
    seen = slice(None) if config.causal else present  # what stands at padding is not looked at
    np.testing.assert_allclose(logits[seen], wanted[seen], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_central_differences(name):
    """Of the loss with all heads, along a random direction, against NumPy's loss in float64."""
    config, epsilon = CONFIGS[name], 1e-5
    params, inputs, targets = make_params(config), make_tokens(config), make_tokens(config, seed=1)
    mask = np.ones(inputs.shape, np.float32)
    loss, grads = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4)(
        params, inputs, targets, mask, config
    )
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)

    def numpy_loss(size):
        moved = jax.tree.map(lambda a, d: np.asarray(a, np.float64) + size * d, params, direction)
        total = 0.0
        for head, weight in transformer.head_weights(config).items():
            scores = numpy_transformer.logits(moved, inputs, config, head=head)
            peak = scores.max(-1, keepdims=True)
            log_p = scores - peak - np.log(np.exp(scores - peak).sum(-1, keepdims=True))
            total -= weight * np.take_along_axis(log_p, targets[..., None], -1).mean()
        return total

    np.testing.assert_allclose(loss, numpy_loss(0.0), rtol=1e-5)
    slope = sum(
        float(np.sum(np.asarray(g, np.float64) * d))
        for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
    )
    wanted = (numpy_loss(epsilon) - numpy_loss(-epsilon)) / (2 * epsilon)
    np.testing.assert_allclose(slope, wanted, rtol=2e-4)


def decoded(params, config, tokens, parts, column=0, held=(0, 0), columns=20):
    """Logits of tokens [2, L] that are given in parts, each behind the one before."""
    laid_out, caches = decoder.laid_out(params, config), decoder.init_caches(config, 2, columns)
    found, first, held = [], 0, np.array(held, np.int32)
    for size in parts:
        part = tokens[:, first : first + size]
        states, caches = DECODE(laid_out, part, caches, column + first, held + first, config)
        found += [decoder.scores(laid_out, states[:, i], config) for i in range(size)]
        first += size
    return np.stack(found, axis=1)


@pytest.mark.parametrize(
    "name", ["gpt2", "gemma", "llama", "qwen", "one kv head", "exits", "ngrams"]
)
@pytest.mark.parametrize("parts", [(11,), (1,) * 11, (4, 5, 1, 1)])
def test_cached_decoding_is_the_full_forward_pass(name, parts):
    config = CONFIGS[name]
    params, tokens = make_params(config), make_tokens(config)
    wanted = LOGITS(params, tokens, config)
    for column in (0, 7):
        found = decoded(params, config, tokens, parts, column)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "qwen", "ngrams"])
@pytest.mark.parametrize("pads", [(3, 0), (5, 6)])
def test_rows_behind_padding_are_texts_of_their_own(name, pads):
    config = CONFIGS[name]
    params, tokens = make_params(config), make_tokens(config, 2, 9)
    found = decoded(params, config, tokens, (7, 1, 1), 3, (-pads[0], -pads[1]))
    for row, pad in enumerate(pads):
        wanted = LOGITS(params, tokens[row : row + 1, pad:], config)[0]
        np.testing.assert_allclose(found[row, pad:], wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["qwen", "ngrams"])
def test_moved_rows_go_on_where_they_were(name):
    config = CONFIGS[name]
    params, tokens = make_params(config), make_tokens(config)
    laid_out, caches = decoder.laid_out(params, config), decoder.init_caches(config, 2, 16)
    held = np.zeros(2, np.int32)
    _, caches = DECODE(laid_out, tokens[:, :6], caches, 5, held, config)
    for columns, column in ((30, 20), (12, 6)):
        shifted = decoder.moved(caches, np.array([1, 0, 0, 1]), column - 11, columns, config)
        states, _ = DECODE(
            laid_out, tokens[[1, 0, 0, 1], 6:9], shifted, column, np.full(4, 6, np.int32), config
        )
        wanted = LOGITS(params, tokens[[1, 0, 0, 1], :9], config)[:, 8]
        np.testing.assert_allclose(
            decoder.scores(laid_out, states[:, 2], config), wanted, rtol=0, atol=1e-5
        )


def test_rotary_positions_go_beyond_the_context_and_scores_know_distances_alone():
    config = dataclasses.replace(LLAMA, context=4)
    params, tokens = make_params(config), make_tokens(config, length=11)
    np.testing.assert_allclose(
        LOGITS(params, tokens, config), numpy_transformer.logits(params, tokens, config), atol=1e-4
    )
    found = decoded(params, config, tokens, (1,) * 11)
    np.testing.assert_allclose(found, LOGITS(params, tokens, config), rtol=0, atol=1e-5)
    rotate = transformer.POSITIONS["rope"].rotate
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, 6)), jnp.float32) for _ in range(2))
    scores = [
        float(jnp.vdot(rotate(q, first + 3, QWEN), rotate(k, first, QWEN)))
        for first in (0, 5, 1000)
    ]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-4)


def test_exits_read_inner_layers_and_their_weight_mixes_the_losses():
    config = CONFIGS["exits"]
    params, inputs, targets = make_params(config), make_tokens(config), make_tokens(config, seed=1)
    mask = np.ones(inputs.shape, np.float32)

    def nll(head):
        states = transformer.hidden(params, inputs, config, heads=(head,))[head]
        head_VxD = transformer.head_meets(params, config, head)
        return loss_lib.token_nll(states, head_VxD, targets.reshape(-1)).mean()

    last, one, two = (float(nll(head)) for head in ("last", "layer1", "layer2"))
    for weight in (0.0, 0.3, 1.0):
        weighted = dataclasses.replace(config, exit_weight=weight)
        found = transformer.loss(params, inputs, targets, mask, weighted)
        np.testing.assert_allclose(found, (1 - weight) * last + weight * (one + two) / 2, rtol=1e-6)
    shallow, shallow_config = transformer.first_layers(params, config, 1)
    np.testing.assert_allclose(
        LOGITS(shallow, inputs, shallow_config),
        numpy_transformer.logits(params, inputs, config, head="layer1"),
        atol=1e-4,
    )


def test_without_weight_exits_change_nothing_bit_for_bit():
    plain, exits = LLAMA, dataclasses.replace(LLAMA, exits=(1,), exit_weight=0.0)
    params = make_params(exits)
    dense = {**params, "heads": {"last": params["heads"]["last"]}}
    batch = (make_tokens(plain), make_tokens(plain, seed=1), np.ones((2, 11), np.float32))
    step = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4)
    loss, grads = step(params, *batch, exits)
    wanted, wanted_grads = step(dense, *batch, plain)
    assert loss == wanted
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["heads"].pop("layer1")))
    jax.tree.map(np.testing.assert_array_equal, grads, wanted_grads)


def test_a_token_after_padding_or_in_the_future_is_seen_only_without_causal():
    for name, config in CONFIGS.items():
        params, tokens = make_params(config), make_tokens(config)
        other = tokens.copy()
        other[:, 7] = (other[:, 7] + 1) % config.vocab_size
        changed = np.abs(LOGITS(params, tokens, config) - LOGITS(params, other, config)).max(
            axis=(0, 2)
        )
        assert changed[7:].min() > 0, name
        assert (changed[:7].max() > 0) == (not config.causal), name


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_and_flops_are_counted(name):
    """Parameters against the arrays; FLOPs against what XLA counts of one layer."""
    config = CONFIGS[name]
    params = transformer.init(config, jax.random.key(0))
    assert transformer.num_params(config) == sum(leaf.size for leaf in jax.tree.leaves(params))
    one = dataclasses.replace(
        config,
        num_layers=1,
        exits=(),
        attention="fused",
        vocab_size=256,
        d_model=64,
        d_ff=128,
        head_size=16,
        context=32,
    )
    tokens = jax.ShapeDtypeStruct((2, 32), jnp.int32)
    compiled = jax.jit(transformer.logits, static_argnums=2).lower(
        transformer.abstract(one), tokens, one
    )
    counted = compiled.compile().cost_analysis()["flops"] / 64
    assert transformer.flops_per_token(one, train=False) == pytest.approx(counted, rel=0.12)


def test_lora_adapts_every_linear_map_of_any_architecture():
    for config in (GPT2, QWEN):
        adapters = lora.Config(rank=2, alpha=4.0)
        assert set(lora.linear_maps(config)) == {"qkv", "out", "up", "down"}
        base = make_params(config)
        declared = lora.declare(config, adapters)
        rng = np.random.default_rng(1)
        trained = tensors.map_tensors(
            lambda tensor, rng=rng: rng.normal(size=tensor.shape).astype(np.float32), declared
        )
        merged = lora.merge(base, trained, config, adapters)
        for name, (path, tensor) in lora.linear_maps(config).items():
            change = tensors.get(merged["layers"], path) - tensors.get(base["layers"], path)
            inputs = int(np.prod(tensor.shape[1 : 1 + tensor.inputs]))
            for layer in np.asarray(change).reshape(config.num_layers, inputs, -1):
                sizes = np.linalg.svd(layer, compute_uv=False)
                assert sizes[1] > 20 * sizes[2] if len(sizes) > 2 else sizes[0] > 0, name


@pytest.mark.parametrize(
    "change,named",
    [
        ({"norm": "batchnorm"}, "model.norm='batchnorm'"),
        ({"mlp": "relu"}, "model.mlp='relu': must be one of geglu, gelu, swiglu"),
        ({"positions": "alibi"}, "model.positions='alibi'"),
        ({"embedder": "words"}, "model.embedder='words'"),
        ({"head": "none"}, "model.head='none'"),
        ({"num_kv_heads": 3}, "model.num_kv_heads=3"),
        ({"num_kv_heads": -1}, "model.num_kv_heads=-1"),
        ({"head_size": -4}, "model.head_size=-4"),
        ({"positions": "rope", "head_size": 5}, "model.positions='rope'"),
        ({"positions": "rope", "rope_base": 0.0}, "model.rope_base=0.0"),
        ({"positions": "rope", "rope_factor": float("nan")}, "model.rope_factor=nan"),
        ({"norm_epsilon": float("inf")}, "model.norm_epsilon=inf"),
        ({"sliding_window": 4, "causal": False}, "model.sliding_window=4: windows look back"),
        ({"sliding_window": 4, "attention": "splash"}, "model.attention='splash' has no windows"),
        ({"exits": (3,)}, "model.exits="),
        ({"exits": (1, 1)}, "model.exits="),
        ({"exits": (1,), "exit_weight": 1.5}, "model.exit_weight=1.5"),
    ],
)
def test_what_cannot_be_built_is_named(change, named):
    with pytest.raises(UserError, match=named.replace("(", r"\(")):
        check.check(dataclasses.replace(GPT2, **change))


def test_a_local_layer_sees_its_window_and_no_more():
    """One layer: a token changes the states of the `sliding_window` tokens from itself on."""
    for attention in ("blocked", "fused"):
        config = dataclasses.replace(GEMMA, num_layers=1, attention=attention)
        params, tokens = make_params(config), make_tokens(config)
        other = tokens.copy()
        other[:, 3] = (other[:, 3] + 1) % config.vocab_size
        changed = np.abs(LOGITS(params, tokens, config) - LOGITS(params, other, config))
        assert (changed.max((0, 2)) > 0).tolist() == [3 <= place < 7 for place in range(11)]
    check.check(dataclasses.replace(GEMMA, sliding_window=12, attention="splash"))


def test_a_rule_of_a_part_that_is_not_chosen_is_not_checked():
    check.check(dataclasses.replace(GPT2, head_size=5))
