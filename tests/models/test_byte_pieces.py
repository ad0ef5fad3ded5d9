"""The heads of bytes against NumPy, one piece at a time at its own length."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpy_transformer as reference
import pytest

from specialm.common.errors import UserError
from specialm.models import check, decoder, families, lora, tensors, transformer
from specialm.models.families import mixture
from specialm.models.parts import byte_heads, pieces

PIECES = [b"", None, b"a", b"ab", "é".encode(), b"\xff", b"four", b"", b"the ", b"x\x00"]
CONFIG = transformer.Config(
    vocab_size=len(PIECES),
    context=6,
    num_layers=1,
    d_model=8,
    num_heads=2,
    d_ff=12,
    embedder="bytes",
    head="bytes",
    byte_slots=4,
    byte_classes=260,
    byte_size=6,
    byte_heads=2,
    byte_layers=2,
)
LLAMA = dataclasses.replace(
    CONFIG, norm="rmsnorm", positions="rope", mlp="swiglu", biases=False, byte_head_layers=0
)
LOGITS = jax.jit(transformer.logits, static_argnums=2)
HEADS = ("bytes", "bytes_in_turn")
CODES = {0: [257], 2: [97, 256], 4: [195, 169, 256], 5: [255, 256], 6: [*b"four"], 7: [258]}


def with_head(head, config=CONFIG):
    return dataclasses.replace(config, head=head)


def make_params(config, seed=0):
    """Parameters in which no tensor but the codes is at its initial value."""
    rng = np.random.default_rng(seed)
    params = transformer.init(config, jax.random.key(seed), PIECES)
    moved = jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32), params
    )
    if "codes" in params["embed"]:
        moved["embed"]["codes"] = params["embed"]["codes"]
    return moved


def run_blocks(w, x_nxe, config, causal):
    """The blocks over the vectors of one piece, in float64."""
    small = dataclasses.replace(pieces.block_config(config, causal), head_size=3)
    present = np.ones(len(x_nxe), bool)
    for number in range(sum(name.startswith("block") for name in w)):
        b = w[f"block{number}"]
        normed = reference.norm(x_nxe, b["norm1"], small)
        x_nxe = x_nxe + reference.attention(normed, b["attention"], small, present, False)
        x_nxe = x_nxe + reference.mlp(reference.norm(x_nxe, b["norm2"], small), b["mlp"], small)
    return reference.norm(x_nxe, w["byte_norm"], small)


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def numpy_nll(w, x_D, code, config):
    """-log p of one code from one state: the sum over its classes."""
    in_turn = config.head == "bytes_in_turn"
    slots = np.einsum("D,Die->ie", x_D, w["expand"]) + w["places"]
    if in_turn:
        slots = slots[: len(code)]  # what follows is not seen
        slots[1:] += w["before"][code[:-1]]
    logits = run_blocks(w, slots, config, in_turn)[: len(code)] @ w["classes"].T
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -log_p[np.arange(len(code)), code].sum()


def test_codes_by_hand():
    codes = np.asarray(pieces.codes(PIECES, CONFIG), int)
    for number, code in CODES.items():
        assert codes[number].tolist() == code + [-1] * (4 - len(code))
    assert codes[1].tolist() == [-1] * 4  # no text gives it


@pytest.mark.parametrize("head,config", [("bytes", LLAMA), *((head, CONFIG) for head in HEADS)])
def test_nats_are_those_of_the_bytes_and_the_end_mark(head, config):
    config = with_head(head, config)
    params = make_params(config)
    inputs = np.array([[6, 4, 0, 2, 8, 9]])
    targets = np.array([[4, 0, 2, 6, 5, 7]])
    found = jax.jit(transformer.token_nll, static_argnums=3)(params, inputs, targets, config)[0]
    states = jax.jit(transformer.hidden, static_argnums=2)(params, inputs, config)["last"]
    w = float64(params["heads"]["last"])
    wanted = [
        numpy_nll(w, np.asarray(x, np.float64), CODES[token], config)
        for x, token in zip(states, targets[0], strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    scores = np.asarray(LOGITS(params, inputs, config))[0]
    np.testing.assert_allclose(-scores[np.arange(6), targets[0]], wanted, rtol=1e-5)
    assert scores[:, 1].max() < -1e29  # the id that no text gives
    mask = np.array([[1, 0, 1, 1, 0, 0.5]], np.float32)
    sum_nll = jax.jit(transformer.sum_nll, static_argnums=4)
    total = sum_nll(params, inputs, targets, mask, config)
    np.testing.assert_allclose(total, np.dot(mask[0], wanted), rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_the_probabilities_of_all_codes_add_up_to_one(head):
    """Every way to fill two slots: what ends at once, and a byte with anything after it."""
    first, second = np.arange(256), np.arange(259)
    short = [[end, -1] for end in range(256, 259)]
    codes = np.array([*short, *([a, b] for a in first for b in second)], np.float32)
    config = dataclasses.replace(
        with_head(head), byte_slots=2, byte_classes=259, vocab_size=len(codes)
    )
    params = transformer.init(config, jax.random.key(0), PIECES[:4])
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    params["embed"]["codes"] = codes
    met = transformer.head_meets(params, config)
    x_TxD = jax.random.normal(jax.random.key(1), (2, config.d_model))
    logits = jax.jit(byte_heads.logits(head == "bytes_in_turn"), static_argnums=2)
    log_p = logits(x_TxD, met, config)
    np.testing.assert_allclose(np.exp(np.asarray(log_p, np.float64)).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS[1:])
def test_gradients_are_those_of_central_differences_and_codes_get_none(head):
    config = with_head(head)
    params = make_params(config)
    batch = (np.array([[6, 4, 0, 2, 8, 9]]), np.array([[4, 0, 2, 6, 5, 7]]))
    mask = np.array([[1, 0, 1, 1, 1, 0.5]], np.float32)
    loss = jax.jit(lambda params: transformer.loss(params, *batch, mask, config))
    grads = jax.jit(jax.grad(loss))(params)
    assert not np.any(grads["embed"]["codes"])
    rng, epsilon = np.random.default_rng(3), 2e-3
    for part in ("embed", "heads"):
        direction = jax.tree.map(lambda leaf: np.zeros_like(leaf), params)
        direction[part] = jax.tree.map(
            lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params[part]
        )
        if part == "embed":
            direction["embed"]["codes"] *= 0

        def moved(size, direction=direction):
            return float(loss(jax.tree.map(lambda a, by: a + size * by, params, direction)))

        slope = sum(
            float(np.vdot(g, d))
            for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(
            (moved(epsilon) - moved(-epsilon)) / (2 * epsilon), slope, rtol=0.01
        )


def decoded(laid_out, tokens, config):
    """The logits after each token of one text, token by token."""
    decode, caches = jax.jit(decoder.decode, static_argnums=5), decoder.init_caches(config, 1, 8)
    found = []
    for first in range(6):
        token, held = tokens[:, first : first + 1], np.full(1, first, np.int32)
        states, caches = decode(laid_out, token, caches, first, held, config)
        found.append(decoder.scores(laid_out, states[:, 0], config))
    return np.stack(found, 1)


@pytest.mark.parametrize("head", HEADS[1:])
def test_cached_decoding_is_the_full_forward_pass(head):
    config = with_head(head)
    params, tokens = make_params(config), np.array([[6, 4, 0, 2, 8, 9]])
    wanted = LOGITS(params, tokens, config)
    found = decoded(decoder.laid_out(params, config), tokens, config)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_codes_are_no_parameters_and_come_through_every_family():
    config = with_head("bytes_in_turn")
    params = make_params(config)
    codes = params["embed"]["codes"]
    trained = sum(leaf.size for leaf in jax.tree.leaves(params)) - codes.size
    assert transformer.num_params(config) == trained
    with pytest.raises(ValueError, match="is not given"):
        transformer.init(config, jax.random.key(0))
    mixed = mixture.Config(config, 3)
    experts = tensors.init(
        families.declare(mixed), jax.random.key(0), families.constants(mixed, PIECES)
    )
    weights = jnp.array([0.1, 0.2, 0.7])
    soup = mixture.mix(experts, weights)["embed"]["codes"]
    np.testing.assert_array_equal(pieces.read(soup), pieces.read(codes))
    assert set(lora.linear_maps(config)) == {"qkv", "out", "up", "down"}


@pytest.mark.parametrize("head", HEADS)
def test_flops_are_those_that_xla_counts(head):
    config = dataclasses.replace(
        with_head(head),
        attention="fused",
        d_model=64,
        d_ff=128,
        context=8,
        vocab_size=1000,
        byte_size=32,
        byte_classes=512,
        byte_slots=8,
    )
    tokens = jax.ShapeDtypeStruct((2, 8), jnp.int32)
    nll = jax.jit(transformer.token_nll, static_argnums=3)
    compiled = nll.lower(transformer.abstract(config), tokens, tokens, config).compile()
    counted = compiled.cost_analysis()["flops"] / 16
    assert transformer.flops_per_token(config, train=False) == pytest.approx(counted, rel=0.15)


@pytest.mark.parametrize(
    "change,named",
    [
        ({"embedder": "factored", "head": "tied"}, "model.embed_rank=0: model.embedder='factored'"),
        ({"embedder": "tokens"}, "model.head='bytes' reads the bytes of model.embedder='bytes'"),
        ({"byte_heads": 4}, "model.byte_heads=4 does not divide model.byte_size=6"),
        ({"byte_classes": 257}, "model.byte_classes=257: must be at least 258"),
    ],
)
def test_what_cannot_be_built_is_named(change, named):
    with pytest.raises(UserError, match=named):
        check.check(dataclasses.replace(CONFIG, **change))


def test_pieces_that_do_not_fit_are_named():
    with pytest.raises(
        UserError, match="pieces of 5 bytes, such as b'longe'; set data.longest_piece=4"
    ):
        pieces.codes([b"longe"], CONFIG)
    with pytest.raises(UserError, match="at least 262 classes are needed"):
        pieces.codes([b""] * 5, CONFIG)
