import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.models import lora, tensors, transformer

MATRICES = ("qkv", "out", "up", "down")
PARTS = {"qkv": "attention", "out": "attention", "up": "mlp", "down": "mlp"}


def make_case(seed=0, rank=3, alpha=8.0, matrices=MATRICES, sizes=(2, 8, 2, 12)):
    """A small model, LoRA settings, and both their parameters, all random, float64."""
    layers, d_model, heads, d_ff = sizes
    model = transformer.Config(
        vocab_size=11, context=5, num_layers=layers, d_model=d_model, num_heads=heads, d_ff=d_ff
    )
    config = lora.Config(rank, alpha, tuple(matrices))
    rng = np.random.default_rng(seed)
    params, adapters = (
        tensors.map_tensors(lambda tensor: rng.normal(size=tensor.shape), declared)
        for declared in (transformer.declare(model), lora.declare(model, config))
    )
    return model, config, params, adapters


def as_matrices(adapter, layer, rank):
    """A [inputs, R] and B [R, outputs] of one layer."""
    return adapter["a"][layer].reshape(-1, rank), adapter["b"][layer].reshape(rank, -1)


@given(
    rank=st.integers(1, 9),
    alpha=st.floats(0.1, 99),
    seed=st.integers(0, 99),
    matrices=st.sets(st.sampled_from(MATRICES), min_size=1),
    sizes=st.sampled_from([(1, 4, 1, 3), (2, 8, 2, 12), (3, 6, 3, 5)]),
)
@settings(max_examples=6)
def test_merge_is_the_formula_in_float64(rank, alpha, seed, matrices, sizes):
    model, config, params, adapters = make_case(seed, rank, alpha, sorted(matrices), sizes)
    with jax.enable_x64(True):
        merged = lora.merge(params, adapters, model, config)
    for name in MATRICES:
        base, made = (tree["layers"][PARTS[name]][name] for tree in (params, merged))
        if name not in matrices:
            assert made is base
            continue
        made = np.asarray(made)
        assert made.dtype == np.float64
        for layer in range(model.num_layers):
            a, b = as_matrices(adapters[name], layer, rank)
            want = base[layer] + alpha / rank * (a @ b).reshape(base[layer].shape)
            np.testing.assert_allclose(made[layer], want, rtol=1e-12, atol=1e-12)
    layers = {**merged["layers"], **{n: params["layers"][n] for n in ("attention", "mlp")}}
    others = {**merged, "layers": layers}
    assert all(
        a is b for a, b in zip(jax.tree.leaves(others), jax.tree.leaves(params), strict=True)
    )


def test_gradients_come_back_through_the_merge():
    model, config, params, adapters = make_case(seed=1)
    slope = make_case(seed=2)[2]  # of any loss, for the merged parameters
    with jax.enable_x64(True):
        _, to_adapters = jax.vjp(lambda a: lora.merge(params, a, model, config), adapters)
        (grads,) = to_adapters(jax.tree.map(jax.numpy.asarray, slope))
    scale = config.alpha / config.rank
    for name, grad in grads.items():
        for layer in range(model.num_layers):
            a, b = as_matrices(adapters[name], layer, config.rank)
            grad_a, grad_b = as_matrices(grad, layer, config.rank)
            slope_w = slope["layers"][PARTS[name]][name][layer].reshape(len(a), -1)
            np.testing.assert_allclose(grad_a, scale * slope_w @ b.T, rtol=1e-12)
            np.testing.assert_allclose(grad_b, scale * a.T @ slope_w, rtol=1e-12)


def test_training_starts_at_the_base_bit_for_bit():
    model, config, base, _ = make_case(sizes=(2, 64, 4, 96))
    base = jax.tree.map(lambda leaf: leaf.astype(np.float32), base)

    @jax.jit
    def start(key):
        adapters = tensors.init(lora.declare(model, config), key)
        return adapters, lora.merge(base, adapters, model, config)

    adapters, merged = start(jax.random.key(0))
    for made, before in zip(jax.tree.leaves(merged), jax.tree.leaves(base), strict=True):
        assert np.asarray(made).tobytes() == before.tobytes()
    for name, inputs in {"qkv": 64, "out": 64, "up": 64, "down": 96}.items():
        a = np.asarray(adapters[name]["a"])
        assert a.std() == pytest.approx(inputs**-0.5, rel=0.15)
        assert not np.array_equal(a[0], a[1])  # the layers start differently
        assert not adapters[name]["b"].any()


def test_the_papers_llm_has_about_5m_trainable_parameters():
    llm = transformer.Config(
        vocab_size=32_000, context=1024, num_layers=7, d_model=2816, num_heads=22, d_ff=11264
    )

    def count(*matrices):
        return tensors.count(lora.declare(llm, lora.Config(64, 16.0, matrices)))

    assert count("qkv") == 7 * 64 * 4 * 2816 == 5_046_272
    assert count("out") == 7 * 64 * 2 * 2816
    assert count("up") == count("down") == 7 * 64 * (2816 + 11264)
    assert count(*MATRICES) == sum(map(count, MATRICES))


def test_the_cost_is_what_xla_counts():
    model = transformer.Config(
        vocab_size=512, context=16, num_layers=2, d_model=64, num_heads=2, d_ff=256
    )
    config = lora.Config(2, 8.0, ("qkv",))
    adapters = tensors.abstract(lora.declare(model, config))
    tokens = jax.ShapeDtypeStruct((16, 16), np.int32)

    def gradient(adapters, params, inputs, targets, mask):
        return jax.grad(
            lambda a: transformer.sum_nll(
                lora.merge(params, a, model, config), inputs, targets, mask, model
            )
        )(adapters)

    compiled = (
        jax.jit(gradient)
        .lower(
            adapters,
            transformer.abstract(model),
            tokens,
            tokens,
            jax.ShapeDtypeStruct((16, 16), np.float32),
        )
        .compile()
    )
    assert lora.flops_per_token(model, config) == pytest.approx(
        compiled.cost_analysis()["flops"] / 256, rel=0.05
    )
    assert lora.flops_per_token(model, config) < 0.8 * transformer.flops_per_token(model, True)


def test_every_axis_of_a_factor_has_a_name():
    model, config, _, _ = make_case()
    declared = lora.declare(model, config)
    assert declared["qkv"]["a"].axes == ("layers", "embed", None)
    assert declared["qkv"]["b"].axes == ("layers", None, None, "heads", None)
    assert declared["out"]["a"].axes == ("layers", "heads", None, None)
    assert declared["out"]["b"].axes == ("layers", None, "embed")
    assert declared["down"]["a"].axes == ("layers", "mlp", None)
    tensors.map_tensors(
        lambda tensor: np.testing.assert_equal(len(tensor.axes), len(tensor.shape)), declared
    )


def test_the_published_size_of_the_adapters():
    """docs/methods.md, LoRA: rank 64 on the LLM, about 5M trained parameters."""
    from specialm import config as config_lib
    from specialm import methods

    config = config_lib.load("configs/paper/llm_lora.py")
    model = methods.model_config(config, "llm", 32_000, 384)
    adapters = lora.Config(
        config.finetune.lora_rank, config.finetune.lora_alpha, tuple(config.finetune.lora_matrices)
    )
    assert adapters.rank == 64
    assert tensors.count(lora.declare(model, adapters)) == pytest.approx(5e6, rel=0.02)
