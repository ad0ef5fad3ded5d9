import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_bank import MODEL, random_params

from specialm.models import families, tensors, transformer
from specialm.models.families import bank, mixture

CONFIGS = {
    "dense": MODEL,
    "one": bank.Config(MODEL, "dense", 1, 1, 1, (0, 1, 2)),
    "projected": bank.Config(MODEL, "projected", 5, 4, 3, (0, 2)),
    "hypernetwork": bank.Config(MODEL, "hypernetwork", 5, 4, 3, (1,), features=6, hidden=7),
    "soup": bank.Config(MODEL, "soup", 5, 4, 3, (0, 1, 2), hidden=7),
    "mixture": mixture.Config(MODEL, 5),
}
D, F = MODEL.d_model, MODEL.d_ff
MLP_SIZE = 2 * D * F + D + F
# The parameters beside the MLPs: tables, 4 D^2 + 8 D of each layer, the last norm.
OUTSIDE = (MODEL.vocab_size + MODEL.context) * D + 3 * (4 * D * D + 8 * D) + 2 * D
COUNTS = {
    "dense": OUTSIDE + 3 * MLP_SIZE,
    "one": OUTSIDE + 3 * MLP_SIZE,
    "projected": OUTSIDE + (1 + 2 * 4) * MLP_SIZE + 5 * 3 + 2 * 3 * 4,  # E [k, m], M [S, m, h]
    "hypernetwork": OUTSIDE + (2 + 4) * MLP_SIZE + 6 * 7 + 7 + 1 * (7 * 4 + 4),
    "soup": OUTSIDE + 3 * 4 * MLP_SIZE + 5 * 7 + 7 + 3 * (7 * 4 + 4),
    "mixture": 5 * (OUTSIDE + 3 * MLP_SIZE),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_counted_and_declared_as_they_are_made(name):
    config = CONFIGS[name]
    declared = families.declare(config)
    params = jax.eval_shape(lambda key: tensors.init(declared, key), jax.random.key(0))
    assert (
        families.num_params(config)
        == COUNTS[name]
        == sum(leaf.size for leaf in jax.tree.leaves(params))
    )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), tensors.abstract(declared)
    )
    axes = tensors.logical_axes(declared)
    for leaf, names in zip(
        jax.tree.leaves(params),
        jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple)),
        strict=True,
    ):
        assert len(names) == leaf.ndim
    assert families.dense(config) == MODEL


def test_only_the_weights_of_the_bank_and_the_experts_are_spread_over_the_devices():
    """Each along one axis: d_ff, or d_model of the one bias that has no other."""
    for name in ("projected", "hypernetwork", "soup"):
        axes = tensors.logical_axes(bank.declare(CONFIGS[name]))
        split = {
            field: [(i, axis) for i, axis in enumerate(names) if axis not in ("layers", None)]
            for field, names in axes["bank"]["mlp"].items()
        }
        assert split == {
            "up": [(3, "bank")],
            "up_bias": [(2, "bank")],
            "down": [(2, "bank")],
            "down_bias": [(2, "bank_bias")],
        }
        rest = jax.tree.leaves((axes["shared"], axes["mixer"]))
        assert not {"bank", "bank_bias", "expert"} & set(rest)
    axes = tensors.logical_axes(mixture.declare(CONFIGS["mixture"]))
    assert all(
        names[0] == "expert"
        for names in jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
    )


def xla_flops(function, *shapes):
    return jax.jit(function).lower(*shapes).compile().cost_analysis()["flops"]


def test_flops_of_the_projection_are_those_that_xla_counts():
    groups, tokens = 8, 8 * 96  # per step
    config = bank.Config(MODEL, "projected", 5, 6, 5, (0, 2))
    mlp = tensors.abstract(bank.declare(config))["bank"]
    coefficients = jax.ShapeDtypeStruct((groups, 2, 6), jnp.float32)
    weights = jax.eval_shape(bank.mix, mlp, coefficients)

    def forward_and_backward(mlp, coefficients, grads):
        made, back = jax.vjp(bank.mix, mlp, coefficients)
        return made, back(grads)

    for train, counted in (
        (False, xla_flops(bank.mix, mlp, coefficients)),
        (True, xla_flops(forward_and_backward, mlp, coefficients, weights)),
    ):
        added = families.flops_per_token(
            config, train, tokens // groups
        ) - families.flops_per_token(config, train)
        assert added * tokens == pytest.approx(counted, rel=0.05)


@pytest.mark.parametrize("name", CONFIGS)
def test_beside_the_projection_flops_are_those_of_the_dense_model(name):
    for train in (False, True):
        flops = families.flops_per_token(CONFIGS[name], train)
        assert flops == transformer.flops_per_token(MODEL, train) > 0


def test_every_expert_of_a_mixture_made_from_a_dense_model_is_that_model():
    config, plain = CONFIGS["mixture"], random_params(transformer.declare(MODEL), dtype=np.float32)
    params = families.from_dense(config, jax.tree.map(jnp.array, plain), jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == jax.tree.map(
        lambda leaf: leaf.shape, tensors.abstract(families.declare(config))
    )
    for expert in range(5):
        one = jax.tree.map(lambda leaf, i=expert: leaf[i], jax.device_get(params))
        jax.tree.map(np.testing.assert_array_equal, one, plain)
