import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bank import as_bank, configs, mlp_of, project, random_features, random_params

from specialm.models.families import bank, mixture


@given(config=configs(["projected"]), seed=st.integers(0, 99))
@settings(max_examples=3)
def test_a_mixture_is_a_projected_network_of_one_hot_experts(config, seed):
    """M = I and E_i one-hot on the MLPs, with the expert's other tensors as the shared ones."""
    k, layers, others = config.num_experts, list(config.layers), list(config.others)
    config = bank.Config(config.model, "projected", k, k, k, config.layers)
    params = random_params(mixture.declare(mixture.Config(config.model, k)), seed)
    mlp = {name: weight.swapaxes(0, 1)[layers] for name, weight in mlp_of(params).items()}
    mixer = {"code": np.eye(k), "mix": np.broadcast_to(np.eye(k), (len(layers), k, k))}
    for i in range(k):
        shared = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        with jax.enable_x64(True):
            made = project(as_bank(shared, mlp, others, **mixer), np.eye(k)[[i]], config)[2][0]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), made, shared)


@given(config=configs(["projected"]), seed=st.integers(0, 99))
@settings(max_examples=3)
def test_mixing_is_the_weighted_mean_of_all_tensors(config, seed):
    params = random_params(mixture.declare(mixture.Config(config.model, config.num_experts)), seed)
    histogram = random_features(config, 1, seed)[0]
    with jax.enable_x64(True):
        mix = jax.jit(mixture.mix)
        made, one = mix(params, histogram), mix(params, np.eye(config.num_experts)[-1])

    def check(ours, leaf):
        expected = sum(p * weight for p, weight in zip(histogram, leaf, strict=True))
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)

    jax.tree.map(check, made, params)
    jax.tree.map(np.testing.assert_array_equal, one, jax.tree.map(lambda leaf: leaf[-1], params))
