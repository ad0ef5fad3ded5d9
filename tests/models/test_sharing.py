"""Weight sharing against models whose layers were written out by hand, in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpy_transformer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_parts import GPT2, LLAMA, make_params, make_tokens

from specialm.common.errors import UserError
from specialm.models import check, decoder, expansion, families, lora, sharing, tensors, transformer
from specialm.models.families import bank, mixture
from specialm.models.placement import MODEL_AXES
from specialm.training import layout

DEEP = dataclasses.replace(GPT2, num_layers=4)
# model.share -> for each tensor of a layer the stored sets by hand
SHARED = {
    "mlp": (("mlp:all",), {"mlp": (0, 0, 0, 0)}),
    "inner": (("mlp:inner", "attention_output:all"), {"mlp": (0, 1, 1, 2), "out": (0, 0, 0, 0)}),
    "loop": (("block:cycle-2",), dict.fromkeys(("mlp", "out", "qkv", "norm"), (0, 1, 0, 1))),
    "neighbours": (("attention:repeat-2",), {"out": (0, 0, 1, 1), "qkv": (0, 0, 1, 1)}),
    "corrected": (
        ("mlp:all+low_rank", "attention:cycle-3"),
        {"mlp": (0,) * 4, "qkv": (0, 1, 2, 0)},
    ),
    "corrected loop": (
        ("block:all+low_rank",),
        dict.fromkeys(("mlp", "out", "qkv", "norm"), (0,) * 4),
    ),
}
SHARED["corrected"][1]["out"] = (0, 1, 2, 0)

STEP = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4)
LOGITS = jax.jit(transformer.logits, static_argnums=2)
DECODE = jax.jit(decoder.decode, static_argnames="config")


def config_of(name, base=DEEP):
    return dataclasses.replace(base, share=SHARED[name][0], share_rank=2)


def kind(path):
    if path[0] in ("norm1", "norm2"):
        return "norm"
    if path[0] == "mlp":
        return "mlp"
    return "out" if path[1].startswith("out") else "qkv"


def written_out(params, name):
    """The layers, one after the other: each matrix of its set, plus its own a b."""
    rows, corrections = SHARED[name][1], params["layers"].get("low_rank", {})

    def layer(path, leaf, y):
        leaf = np.asarray(leaf, np.float64)
        weights = leaf[rows[kind(path)][y] if kind(path) in rows else y]
        factors = corrections.get(path[0], {}).get(path[1])
        if factors is None:
            return weights
        a, b = (np.asarray(factors[f][y], np.float64) for f in "ab")
        return weights + (a.reshape(-1, 2) @ b.reshape(2, -1)).reshape(weights.shape)

    stored = {part: tree for part, tree in params["layers"].items() if part != "low_rank"}
    layers = {
        part: {
            n: np.stack([layer((part, n), leaf, y) for y in range(4)]) for n, leaf in tree.items()
        }
        for part, tree in stored.items()
    }
    return {**params, "layers": layers}


LLAMA4 = dataclasses.replace(LLAMA, num_layers=4, exits=(2,))


@pytest.mark.parametrize("name,base", [("inner", DEEP), ("loop", LLAMA4), ("corrected", LLAMA4)])
def test_a_model_that_shares_is_the_one_written_out(name, base):
    config = config_of(name, base)
    params, tokens = make_params(config), make_tokens(config)
    whole = written_out(params, name)
    plain = dataclasses.replace(config, share=())
    assert jax.tree.map(np.shape, whole) == jax.tree.map(np.shape, transformer.abstract(plain))
    wanted = numpy_transformer.logits(whole, tokens, plain)
    np.testing.assert_allclose(LOGITS(params, tokens, config), wanted, atol=2e-4)
    laid_out, caches = decoder.laid_out(params, config), decoder.init_caches(config, 2, 20)
    held_B = np.zeros(2, np.int32)
    states, _ = DECODE(laid_out, tokens, caches, 0, held_B, config=config)
    decoded = decoder.scores(laid_out, states[:, -1], config)
    np.testing.assert_allclose(decoded, wanted[:, -1], atol=2e-4)
    for head in base.exits:
        shallow, shallow_config = transformer.first_layers(params, config, head)
        np.testing.assert_allclose(
            LOGITS(shallow, tokens, shallow_config),
            numpy_transformer.logits(whole, tokens, plain, head=f"layer{head}"),
            atol=2e-4,
        )


@pytest.mark.parametrize("name", ["inner", "corrected loop"])
def test_the_gradient_of_a_set_is_the_sum_over_the_layers_that_use_it(name):
    config = config_of(name)
    plain = dataclasses.replace(config, share=())
    params, inputs, targets = make_params(config), make_tokens(config), make_tokens(config, seed=1)
    mask = np.ones(inputs.shape, np.float32)
    _, found = STEP(params, inputs, targets, mask, config)
    whole = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), written_out(params, name))
    of_layers = STEP(whole, inputs, targets, mask, plain)[1]["layers"]
    rows, corrections = SHARED[name][1], params["layers"].get("low_rank", {})
    for path, _ in tensors.flatten(transformer.declare(plain)["layers"]):
        grad = np.asarray(tensors.get(of_layers, path), np.float64)
        used = rows.get(kind(path), range(4))
        wanted = np.stack([grad[[u == row for u in used]].sum(0) for row in range(max(used) + 1)])
        np.testing.assert_allclose(tensors.get(found["layers"], path), wanted, atol=2e-6)
        factors = corrections.get(path[0], {}).get(path[1])
        if factors is None:
            continue
        for y in range(4):
            a, b = (np.asarray(factors[f][y], np.float64) for f in "ab")
            flat = grad[y].reshape(a.reshape(-1, 2).shape[0], -1)
            grads = found["layers"]["low_rank"][path[0]][path[1]]
            np.testing.assert_allclose(
                grads["a"][y].reshape(-1, 2), flat @ b.reshape(2, -1).T, atol=2e-6
            )
            np.testing.assert_allclose(
                grads["b"][y].reshape(2, -1), a.reshape(-1, 2).T @ flat, atol=2e-6
            )


def test_a_correction_starts_at_the_shared_weights():
    config = config_of("corrected loop")
    params = transformer.init(config, jax.random.key(0))
    without = {n: p for n, p in params["layers"].items() if n != "low_rank"}
    tokens = make_tokens(config)
    np.testing.assert_array_equal(
        LOGITS(params, tokens, config),
        LOGITS(
            {**params, "layers": without}, tokens, dataclasses.replace(config, share=("block:all",))
        ),
    )
    factors = params["layers"]["low_rank"]["mlp"]["up"]
    assert not np.any(factors["b"]) and np.std(factors["a"]) == pytest.approx(1 / 4, rel=0.2)


def test_nothing_shared_is_the_same_model_bit_for_bit():
    """Also every layer with a set of its own: "cycle" of as many sets as layers."""
    own = dataclasses.replace(DEEP, share=("block:cycle-4",))
    assert transformer.declare(own).keys() == transformer.declare(DEEP).keys()
    params = transformer.init(DEEP, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, transformer.init(own, jax.random.key(0)), params)
    batch = (make_tokens(DEEP), make_tokens(DEEP, seed=1), np.ones((2, 11), np.float32))
    jax.tree.map(
        np.testing.assert_array_equal, STEP(params, *batch, own), STEP(params, *batch, DEEP)
    )
    layers = params["layers"]
    assert expansion.expanded(layers, {}, DEEP) is layers


def test_sizes_are_those_of_what_is_stored_and_flops_those_of_the_layers():
    d, f, y = DEEP.d_model, DEEP.d_ff, 4
    mlp = 2 * d * f + f + d
    plain = transformer.num_params(DEEP)
    shared = dataclasses.replace(DEEP, share=("mlp:all",))
    assert transformer.num_params(shared) == plain - 3 * mlp
    corrected = dataclasses.replace(DEEP, share=("mlp:inner+low_rank",), share_rank=3)
    assert transformer.num_params(corrected) == plain - mlp + y * 3 * 2 * (d + f)
    for config in (shared, corrected):
        for train in (True, False):
            assert transformer.flops_per_token(config, train) == transformer.flops_per_token(
                DEEP, train
            )


@given(layers=st.integers(1, 9), n=st.integers(1, 9))
@settings(max_examples=30)
def test_patterns_use_every_set_and_no_other(layers, n):
    for name, rows in sharing.SHARINGS.items():
        if n > layers or (name == "inner" and layers < 3):
            continue
        used = rows(layers, n)
        assert len(used) == layers and set(used) == set(range(max(used) + 1))
        if name.endswith("-N"):
            assert max(used) + 1 == n


@pytest.mark.parametrize(
    "share,named",
    [
        (("mlp",), "model.share='mlp': must be PART:PATTERN"),
        (("mlps:all",), "model.share='mlps:all': must be"),
        (("mlp:some",), "model.share='mlp:some': must be"),
        (("mlp:all-2",), "model.share='mlp:all-2': must be"),
        (("mlp:cycle",), "model.share='mlp:cycle': must be"),
        (("mlp:all+rank",), "model.share='mlp:all.rank': must be"),
        (("mlp:cycle-0",), "model.share='mlp:cycle-0': there are model.num_layers=4 layers"),
        (("mlp:cycle-5",), "choose 1 to 4"),
        (("mlp:all", "block:all"), "mlp:all and block:all are both about mlp.up"),
        (("attention_output:all", "attention:all"), "are both about attention.out"),
    ],
)
def test_what_cannot_be_shared_is_named(share, named):
    with pytest.raises(UserError, match=named):
        check.check(dataclasses.replace(DEEP, share=share))


def test_two_layers_have_no_inner_ones():
    with pytest.raises(UserError, match="leaves no two layers between"):
        check.check(dataclasses.replace(DEEP, num_layers=2, share=("mlp:inner",)))


@pytest.mark.parametrize("name", ["mlp", "inner", "corrected"])
def test_banks_hold_sets_and_lora_adapts_them(name):
    """A bank's expert is the dense model with the mixed sets; LoRA's matrices are of each set."""
    config = config_of(name)
    sets = tuple(sorted(set(sharing.rows("mlp", config))))
    for layers in {sets, sets[:1]}:
        sizes = bank.Config(config, "projected", 3, 2, 2, layers)
        declared = families.declare(sizes)
        rng = np.random.default_rng(0)
        params = tensors.map_tensors(
            lambda tensor, rng=rng: rng.normal(size=tensor.shape).astype(np.float32), declared
        )
        expert = families.expert(sizes, params, np.eye(3, dtype=np.float32), jnp.eye(3)[1])
        abstract = transformer.abstract(config)
        assert jax.tree.map(np.shape, expert) == jax.tree.map(np.shape, abstract)
        c_Sxh = bank.coefficients(params["mixer"], jnp.eye(3), sizes)[1]
        for s, row in enumerate(layers):
            wanted = np.tensordot(c_Sxh[s], params["bank"]["mlp"]["up"][s], 1)
            np.testing.assert_allclose(expert["layers"]["mlp"]["up"][row], wanted, atol=1e-5)
    adapters = lora.Config(rank=1, alpha=1.0)
    shapes = lora.declare(config, adapters)
    assert shapes["up"]["a"].shape == (len(sets), config.d_model, 1)
    assert set(lora.linear_maps(config)) == {"qkv", "out", "up", "down"}
    mixed = mixture.Config(config, 3)
    assert families.num_params(mixed) == 3 * transformer.num_params(config)


def test_the_axes_along_model_are_those_of_the_layout():
    along = {axis for axis, where in layout.RULES.items() if where == layout.MODEL}
    assert along == set(MODEL_AXES)
