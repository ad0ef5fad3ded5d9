import jax.numpy as jnp
import numpy as np
import pytest

from specialm import config
from specialm.models import tensors
from specialm.training import optimizer


def settings(**changes):
    train = config.default().train
    train.update(changes)
    return train


def test_cosine_with_warm_up():
    train = settings(schedule="cosine", learning_rate=2.0, warmup_steps=4, final_fraction=0.1)
    rate = optimizer.schedule(train, 104)
    # Linear from rate / warm-up, so that the first step moves; then 2 (0.1 + 0.9 (1 + cos) / 2).
    assert [float(rate(i)) for i in (0, 2, 4)] == pytest.approx([0.5, 1.25, 2.0])
    assert float(rate(54)) == pytest.approx(2 * (0.1 + 0.9 * 0.5), rel=1e-6)
    assert float(rate(104)) == pytest.approx(0.2, rel=1e-6)


def test_no_warm_up_starts_at_the_peak():
    for name in ("cosine", "constant"):
        rate = optimizer.schedule(settings(schedule=name, learning_rate=2.0, warmup_steps=0), 100)
        assert float(rate(0)) == pytest.approx(2.0, rel=1e-6)
    assert float(rate(99)) == 2.0
    train = settings(schedule="cosine", learning_rate=2.0, warmup_steps=0, final_fraction=0.1)
    assert float(optimizer.schedule(train, 100)(50)) == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert float(optimizer.schedule(train, 1)(0)) == pytest.approx(2.0)


def test_late_cosine_is_constant_before():
    train = settings(
        schedule="cosine",
        learning_rate=2.0,
        warmup_steps=4,
        final_fraction=0.1,
        decay_fraction=0.25,
    )
    rate = optimizer.schedule(train, 400)
    assert [float(rate(i)) for i in (4, 150, 300)] == pytest.approx([2.0, 2.0, 2.0])
    assert float(rate(350)) == pytest.approx(2 * (0.1 + 0.9 * 0.5), rel=1e-6)
    assert float(rate(400)) == pytest.approx(0.2, rel=1e-6)


def test_a_mixer_is_slower_and_not_decayed(tiny_model):
    """Adam's first step is the learning rate times the sign of the gradient, times
    `mixer_multiplier` for what the coefficients are computed with."""
    import jax

    from specialm.models.families import bank

    train = settings(
        optimizer="adamw",
        schedule="constant",
        learning_rate=0.5,
        warmup_steps=1,
        clip_norm=1e9,
        weight_decay=0.0,
        mixer_multiplier=0.2,
    )
    declared = bank.declare(bank.Config(tiny_model, "projected", 4, 4, 4, (1,)))
    tx = optimizer.make(train, 10, declared)
    params = tensors.init(declared, jax.random.key(0))
    updates, _ = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        expected = -0.1 if "['mixer']" in jax.tree_util.keystr(path) else -0.5
        np.testing.assert_allclose(update, expected, rtol=1e-5)
    decayed = tensors.map_tensors(lambda tensor: tensor.decay, declared)
    assert decayed["bank"]["mlp"]["up"] and decayed["shared"]["embed"]["tokens"]
    assert not any(jax.tree.leaves(decayed["mixer"])) and not decayed["bank"]["mlp"]["up_bias"]


def test_constant_after_warm_up():
    rate = optimizer.schedule(
        settings(schedule="constant", learning_rate=1e-4, warmup_steps=1000), 50_000
    )
    assert float(rate(1000)) == float(rate(49_999)) == pytest.approx(1e-4)
    assert float(rate(500)) == pytest.approx(1e-4 * (1e-3 + 0.5 * (1 - 1e-3)), rel=1e-5)


def test_adam_step_against_the_formula():
    train = settings(
        optimizer="adam",
        schedule="constant",
        learning_rate=0.1,
        warmup_steps=1,
        clip_norm=5.0,
        beta1=0.9,
        beta2=0.999,
    )
    tx = optimizer.make(train, 10, {"w": tensors.matrix((1, 2), (None, None), tensors.zeros)})
    params = {"w": jnp.array([[1.0, -2.0]])}
    state, w = tx.init(params), np.array([[1.0, -2.0]])
    m = v = np.zeros((1, 2))
    for t, gradient in enumerate(([[30.0, 40.0]], [[0.3, -0.1]]), start=1):
        g = np.array(gradient) * min(1, 5 / np.linalg.norm(gradient))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        updates, state = tx.update({"w": jnp.array(gradient)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


def test_decay_is_on_matrices_only(tiny_model):
    from specialm.models import transformer

    names = {
        ".".join(path): tensor.decay
        for path, tensor in tensors.flatten(transformer.declare(tiny_model))
    }
    assert {name for name, value in names.items() if value} == {
        "embed.tokens",
        "position.table",
        "layers.attention.qkv",
        "layers.attention.out",
        "layers.mlp.up",
        "layers.mlp.down",
    }


def test_bfloat16_moments_halve_their_memory(tiny_model):
    """The first moment is stored narrow; an update differs by bfloat16's rounding, 2^-8."""
    import jax

    from specialm.models import transformer

    params = transformer.init(tiny_model, jax.random.key(0))
    grads = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    updates, sizes = {}, {}
    for dtype in ("float32", "bfloat16"):
        tx = optimizer.make(
            settings(optimizer="adam", moment_dtype=dtype), 10, transformer.declare(tiny_model)
        )
        state = tx.init(params)
        updates[dtype], state = tx.update(grads, state, params)
        sizes[dtype] = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    count = transformer.num_params(tiny_model)
    assert sizes["float32"] - sizes["bfloat16"] == 2 * count
    for wide, narrow in zip(*map(jax.tree.leaves, updates.values()), strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=2**-7, atol=1e-12)
