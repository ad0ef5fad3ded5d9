import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.models import target, tensors, transformer
from specialm.models.families import bank

MIXED = ("projected", "hypernetwork", "soup")
MLP = ("up", "up_bias", "down", "down_bias")


@functools.partial(jax.jit, static_argnums=2)
def project(params, features_GxC, config):
    """Coefficients, mixed MLPs and a list of dense parameters, as NumPy would hold them."""
    coefficients = bank.coefficients(params.get("mixer", {}), features_GxC, config)
    return (
        coefficients,
        bank.mix(params["bank"], coefficients)["mlp"],
        [bank.project(params, c, config) for c in coefficients],
    )


def random_params(declared, seed=0, dtype=np.float64):
    """Normal values for every tensor."""
    rng = np.random.default_rng(seed)
    return tensors.map_tensors(lambda tensor: rng.normal(size=tensor.shape).astype(dtype), declared)


def random_features(config, groups, seed=0, dtype=np.float64):
    """[G, C]: histograms, or for the hypernetwork any vectors."""
    rng = np.random.default_rng(seed)
    if config.family == "hypernetwork":
        return rng.normal(size=(groups, config.features)).astype(dtype)
    return rng.dirichlet(np.ones(config.num_experts), groups).astype(dtype)


@st.composite
def configs(draw, families=MIXED):
    def size(most):
        return draw(st.integers(1, most))

    heads, num_layers = size(2), size(4)
    layers = draw(st.sets(st.integers(0, num_layers - 1), min_size=1))
    model = transformer.Config(
        vocab_size=3,
        context=2,
        num_layers=num_layers,
        d_model=heads * size(2),
        num_heads=heads,
        d_ff=size(5),
    )
    return bank.Config(
        model,
        draw(st.sampled_from(families)),
        num_experts=size(4),
        rank=size(4),
        code=size(4),
        layers=tuple(sorted(layers)),
        features=size(3),
        hidden=size(4),
    )


def numpy_coefficients(mixer, features_C, config):
    """[S, h] of a network, one number after the other."""
    made = np.zeros((len(config.layers), config.rank))
    for s in range(len(config.layers)):
        for r in range(config.rank):
            for u in range(config.hidden):
                unit = np.tanh(features_C @ mixer["hidden"][:, u] + mixer["hidden_bias"][u])
                made[s, r] += unit * mixer["out"][s, u, r]
            made[s, r] += mixer["out_bias"][s, r]
    return made


def numpy_mlp(params, features_C, config):
    """{name: [S, ...]}: the mixed MLPs. For an expert i of a projected network the paper's
    W[a,b] = sum_q sum_r E[i,q] M_l[q,r] T_l[a,b,r]; for a histogram its mean over i."""
    mixer, mlp = params["mixer"], {}
    for name in MLP:
        weights = params["bank"]["mlp"][name]
        made = mlp[name] = np.zeros((len(weights), *weights.shape[2:]))
        for s in range(len(config.layers)):
            for r in range(config.rank):
                if config.family != "projected":
                    made[s] += numpy_coefficients(mixer, features_C, config)[s, r] * weights[s, r]
                    continue
                for i, share in enumerate(features_C):
                    for q in range(config.code):
                        made[s] += (
                            share * mixer["code"][i, q] * mixer["mix"][s, q, r] * weights[s, r]
                        )
    return mlp


def assert_projected(made, params, mlp, config):
    """`made` has mlp[name][s] in the bank's layers and all of params["shared"] elsewhere.

    Args:
      mlp: the expected values of the bank's layers, in their order.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(made):
        name = path[-1].key
        if name not in MLP:
            shared = tensors.get(params["shared"], tuple(key.key for key in path))
            np.testing.assert_array_equal(leaf, shared, err_msg=name)
            continue
        assert leaf.dtype == np.float64 and len(leaf) == config.model.num_layers
        outside = iter(() if not config.others else params["shared"]["layers"]["mlp"][name])
        for y, weight in enumerate(leaf):
            if y in config.layers:
                np.testing.assert_allclose(
                    weight, mlp[name][config.layers.index(y)], rtol=1e-11, atol=1e-11, err_msg=name
                )
            else:
                np.testing.assert_array_equal(weight, next(outside), err_msg=name)
        assert next(outside, None) is None


@given(config=configs(), groups=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=12)
def test_projection_is_the_plain_sum_of_numpy(config, groups, seed):
    params = random_params(bank.declare(config), seed)
    features = random_features(config, groups, seed)
    if config.family == "projected":
        features[0] = np.eye(config.num_experts)[seed % config.num_experts]  # one expert
    with jax.enable_x64(True):
        coefficients, mixed, dense = project(params, features, config)
    assert coefficients.shape == (groups, len(config.layers), config.rank)
    for g in range(groups):
        if config.family != "projected":
            np.testing.assert_allclose(
                coefficients[g],
                numpy_coefficients(params["mixer"], features[g], config),
                atol=1e-11,
            )
        mlp = numpy_mlp(params, features[g], config)
        for name in MLP:
            np.testing.assert_allclose(
                np.asarray(mixed[name])[g], mlp[name], rtol=1e-11, atol=1e-11
            )
        assert_projected(dense[g], params, mlp, config)


def mlp_of(params):
    """{name: [Y, ...]} of a dense model."""
    return {name: params["layers"]["mlp"][name] for name in MLP}


def as_bank(plain, mlp, others, **mixer):
    """A bank of these MLPs, whose other tensors are those of a dense model.

    Args:
      others: the layers outside of the bank.
    """
    layers = {name: part for name, part in plain["layers"].items() if name != "mlp"}
    if others:
        layers["mlp"] = {name: weight[others] for name, weight in mlp_of(plain).items()}
    return {"shared": {**plain, "layers": layers}, "bank": {"mlp": mlp}} | (
        {"mixer": mixer} if mixer else {}
    )


@given(config=configs(["dense"]), seed=st.integers(0, 99))
@settings(max_examples=5)
def test_the_dense_family_is_the_plain_transformer(config, seed):
    config = bank.Config(config.model, "dense", 1, 1, 1, config.layers)
    plain = random_params(transformer.declare(config.model), seed)
    layers, others = list(config.layers), list(config.others)
    params = as_bank(plain, {n: w[layers][:, None] for n, w in mlp_of(plain).items()}, others)
    declared = tensors.abstract(bank.declare(config))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, declared)
    with jax.enable_x64(True):
        made = project(params, np.ones((2, 1)), config)[2]
    for group in made:
        jax.tree.map(np.testing.assert_array_equal, group, plain)


def test_the_mix_for_a_tpu_is_that_for_a_cpu():
    """Of the same numbers; the program is another one."""
    rng = np.random.default_rng(0)
    banked = {"up": rng.normal(size=(3, 4, 5, 6)), "bias": rng.normal(size=(3, 4, 6))}
    with jax.enable_x64(True):
        coefficients_GxSxh = jnp.asarray(rng.normal(size=(2, 3, 4)))
        want = bank.mix(banked, coefficients_GxSxh)
        with target.compiling_for("tpu"):
            found = bank.mix(banked, coefficients_GxSxh)
    for name, leaf in banked.items():
        by_hand = np.einsum("gsr,sr...->gs...", coefficients_GxSxh, leaf)
        np.testing.assert_allclose(want[name], by_hand, rtol=1e-12)
        np.testing.assert_allclose(found[name], by_hand, rtol=1e-12)


@given(config=configs(["projected"]), seed=st.integers(0, 99))
@settings(max_examples=5)
def test_mixing_coefficients_is_mixing_the_projected_weights(config, seed):
    """For a projected network exact, as it is linear: E = sum_i p_i E_i."""
    params = random_params(bank.declare(config), seed)
    histogram = random_features(config, 1, seed)
    with jax.enable_x64(True):
        *experts, made = project(
            params, np.concatenate([np.eye(config.num_experts), histogram]), config
        )[2]
    mean = jax.tree.map(
        lambda *leaves: sum(
            p * np.asarray(leaf) for p, leaf in zip(histogram[0], leaves, strict=True)
        ),
        *experts,
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11), made, mean)


MODEL = transformer.Config(vocab_size=50, context=8, num_layers=3, d_model=32, num_heads=4, d_ff=64)


@pytest.mark.parametrize("family", MIXED)
def test_all_experts_start_as_one_dense_model(family):
    config = bank.Config(MODEL, family, num_experts=5, rank=6, code=6, layers=(0, 2), features=4)
    declared, key = bank.declare(config), jax.random.key(0)
    params = {
        "shared": random_params(declared["shared"], dtype=np.float32),
        "bank": tensors.init(declared["bank"], key),
        "mixer": tensors.init(declared["mixer"], key),
    }
    features = random_features(config, 4, dtype=np.float32)
    if family == "projected":
        features = np.eye(5, dtype=np.float32)
    coefficients, _, (first, *others) = project(params, features, config)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, other, first)
    assert np.abs(np.diff(coefficients, axis=0)).max(axis=(1, 2)).min() > 0  # they will part
    # The banked layers have the scale of a dense model's initial values, each its own values.
    plain = transformer.declare(MODEL)
    for name in MLP:
        tensor = plain["layers"]["mlp"][name]
        made = np.asarray(first["layers"]["mlp"][name])[[0, 2]]
        expected = np.asarray(tensor.init(jax.random.key(1), tensor.shape))
        assert made.std() == pytest.approx(expected.std(), rel=0.1)
        assert made.mean() == pytest.approx(expected.mean(), abs=float(0.1 * expected.std()))
        assert "bias" in name or not np.array_equal(*made)


@pytest.mark.parametrize("spread", [0.25, 2.0])
def test_spread_is_the_sum_of_the_coefficients_behind_the_first(spread):
    """What `declare` says of a projected network with k <= h - 1."""
    config = bank.Config(
        MODEL, "projected", num_experts=5, rank=6, code=6, layers=(0, 2), spread=spread
    )
    mixer = {
        name: np.asarray(tensor.init(jax.random.key(0), tensor.shape))
        for name, tensor in bank.declare(config)["mixer"].items()
    }
    coefficients = np.asarray(bank.coefficients(mixer, np.eye(5, dtype=np.float32), config))
    np.testing.assert_allclose(np.abs(coefficients[..., 1:]).sum(-1), spread, rtol=1e-6)
    assert len(np.unique(coefficients[:, 0], axis=0)) == 5
