"""Experts that all start as one dense model: step 0 is that model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_bank import MODEL, random_params

from specialm.models import families, tensors, transformer
from specialm.models.families import bank, mixture
from specialm.training import optimizer, sharding, step

LLAMA = dataclasses.replace(
    MODEL,
    norm="rmsnorm",
    positions="rope",
    mlp="swiglu",
    biases=False,
    num_kv_heads=1,
    head="untied",
)
FAMILIES = {
    "projected": lambda model: bank.Config(model, "projected", 5, 4, 3, (0, 2)),
    "hypernetwork": lambda model: bank.Config(
        model, "hypernetwork", 5, 4, 3, (0, 1, 2), features=6, hidden=7
    ),
    "soup": lambda model: bank.Config(model, "soup", 5, 4, 3, (1,), hidden=7),
    "mixture": lambda model: mixture.Config(model, 5),
}


def dense_params(model):
    plain = random_params(transformer.declare(model), dtype=np.float32)
    return jax.tree.map(jnp.array, plain)


@pytest.mark.parametrize("model", [MODEL, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_expert_is_the_dense_model_to_the_bit(family, model, tiny_train):
    """A coefficient of 1 and weights of 0 beside it: nothing is rounded."""
    config, dense = FAMILIES[family](model), dense_params(model)
    tx = optimizer.make(tiny_train, 10, families.declare(config))
    state = step.init_state(config, tx, sharding.make_mesh(8), jax.random.key(3), dense=dense)
    declared = tensors.abstract(families.declare(config))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state.params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), declared
    )
    rng = np.random.default_rng(0)
    features_kxC = rng.normal(size=(5, 6)) if family == "hypernetwork" else np.eye(5)
    inputs_BxL = jnp.asarray(rng.integers(0, model.vocab_size, (2, model.context)))
    wanted = transformer.logits(dense, inputs_BxL, model)
    params = jax.device_get(state.params)
    for expert in range(5):
        made = families.expert(config, params, features_kxC.astype(np.float32), np.eye(5)[expert])
        jax.tree.map(np.testing.assert_array_equal, made, jax.device_get(dense))
        np.testing.assert_array_equal(transformer.logits(made, inputs_BxL, model), wanted)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "mixture"])
def test_a_mixed_histogram_is_the_dense_model_too(family):
    config, dense = FAMILIES[family](MODEL), dense_params(MODEL)
    params = families.from_dense(config, dense, jax.random.key(1))
    features_kxC = np.eye(5, 6 if family == "hypernetwork" else 5, dtype=np.float32)
    made = families.expert(config, params, features_kxC, np.full(5, 0.2, np.float32))
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-6), made, dense)
