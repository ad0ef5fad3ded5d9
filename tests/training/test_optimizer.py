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
    state = jax.jit(tx.init)(params)
    updates, _ = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), state, params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        expected = -0.1 if "['mixer']" in jax.tree_util.keystr(path) else -0.5
        np.testing.assert_allclose(update, expected, rtol=1e-5)
    decayed = tensors.map_tensors(lambda tensor: tensor.decay, declared)
    assert decayed["bank"]["mlp"]["up"] and decayed["shared"]["embed"]["tokens"]
    assert not any(jax.tree.leaves(decayed["mixer"])) and not decayed["bank"]["mlp"]["up_bias"]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_table_of_ngrams_has_a_rate_of_its_own(tiny_model, name):
    """Adam's first step is the learning rate times the sign of the gradient; with a multiplier of 1
    the state is what it is without any, so that earlier checkpoints go on.
    """
    import dataclasses

    import jax

    from specialm.models import transformer

    model = dataclasses.replace(tiny_model, embedder="ngrams", ngram_rows=8)
    declared = transformer.declare(model)
    params = tensors.init(declared, jax.random.key(0))
    given = {"optimizer": name, "schedule": "constant", "learning_rate": 0.5, "warmup_steps": 1}
    given |= {"clip_norm": 1e9, "weight_decay": 0.0}
    states = []
    for multiplier in (1.0, 0.2):
        tx = optimizer.make(settings(**given, table_multiplier=multiplier), 10, declared)
        states.append(jax.tree.structure(tx.init(params)))
        grads = jax.tree.map(jnp.ones_like, params)
        updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
        np.testing.assert_allclose(updates["embed"]["ngrams"], -0.5 * multiplier, rtol=1e-5)
        np.testing.assert_allclose(updates["embed"]["tokens"], -0.5, rtol=1e-5)
    assert states[0] != states[1]


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
        state = jax.jit(tx.init)(params)
        updates[dtype], state = jax.jit(tx.update)(grads, state, params)
        sizes[dtype] = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    count = transformer.num_params(tiny_model)
    assert sizes["float32"] - sizes["bfloat16"] == 2 * count
    for wide, narrow in zip(*map(jax.tree.leaves, updates.values()), strict=True):
        np.testing.assert_allclose(narrow, wide, rtol=2**-7, atol=1e-12)


def check_orthogonal(moved, gradient, scale):
    """The update has the singular vectors of the gradient, and singular values near one: between
    0.6 and 1.3, as published, where those of the gradient are not next to nothing."""
    u, sizes, v = np.linalg.svd(np.asarray(gradient, np.float64), full_matrices=False)
    inner = -u.T @ np.asarray(moved, np.float64) @ v.T / scale
    np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=2e-3)
    large = sizes > 0.05 * np.linalg.norm(sizes)
    assert large.any() and np.all((np.diag(inner)[large] > 0.6) & (np.diag(inner)[large] < 1.3))


@pytest.mark.parametrize("family", ["shared", "bank", "mixture"])
def test_muon_makes_the_updates_of_matrices_orthogonal(tiny_model, family):
    """The first momentum is the gradient: each matrix of each layer, set and expert moves by about
    the orthogonal factor of its own, scaled to AdamW's size; all else by Adam's step."""
    import dataclasses

    import jax

    from specialm.models import families
    from specialm.models.families import bank, mixture

    shared = dataclasses.replace(tiny_model, share=("mlp:all+low_rank",), share_rank=2)
    config = {
        "shared": shared,
        "bank": bank.Config(tiny_model, "projected", 3, 2, 2, (1,)),
        "mixture": mixture.Config(tiny_model, 2),
    }[family]
    declared = families.declare(config)
    train = settings(
        optimizer="muon",
        schedule="constant",
        learning_rate=0.5,
        warmup_steps=0,
        clip_norm=1e9,
        weight_decay=0.0,
        mixer_multiplier=1.0,
    )
    tx = optimizer.make(train, 10, declared)
    params = tensors.init(declared, jax.random.key(0))
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), "f"), params)

    def step(grads, params):
        return tx.update(grads, tx.init(params), params)[0]

    updates = jax.jit(jax.vmap(step) if family == "mixture" else step)(grads, params)
    matrices = 0
    for path, tensor in tensors.flatten(declared):
        update, grad = (np.asarray(tensors.get(tree, path)) for tree in (updates, grads))
        if not tensor.inputs:
            np.testing.assert_allclose(np.abs(update), 0.5, rtol=0.1, err_msg=str(path))
            continue
        sizes = tensor.shape[tensor.leading :]
        rows = int(np.prod(sizes[: tensor.inputs]))
        scale = 0.5 * 0.2 * np.sqrt(max(rows, int(np.prod(sizes)) // rows))
        for moved, slope in zip(
            update.reshape(-1, rows, np.prod(sizes) // rows),
            grad.reshape(-1, rows, np.prod(sizes) // rows),
            strict=True,
        ):
            check_orthogonal(moved, slope, scale)
            matrices += 1
    assert matrices >= 5


def test_muon_decays_matrices_and_tables_and_trains_on_the_mesh(tiny_model):
    import jax

    from specialm.models import transformer
    from specialm.training import sharding, step

    train = settings(
        optimizer="muon", schedule="constant", learning_rate=0.01, warmup_steps=0, weight_decay=0.5
    )
    declared = transformer.declare(tiny_model)
    tx = optimizer.make(train, 10, declared)
    params = transformer.init(tiny_model, jax.random.key(0))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zero, tx.init(params), params)
    for path, tensor in tensors.flatten(declared):
        wanted = -0.005 * np.asarray(tensors.get(params, path)) * tensor.decay
        np.testing.assert_allclose(tensors.get(updates, path), wanted, atol=1e-7)
    mesh = sharding.make_mesh(8)
    state = step.init_state(tiny_model, tx, mesh, jax.random.key(0))
    run = step.make_train_step(tiny_model, tx, mesh)
    tokens = np.random.default_rng(0).integers(0, 9, (8, 16), dtype=np.int32)
    batch = {"inputs": tokens, "targets": tokens, "mask": np.ones(tokens.shape, np.float32)}
    losses = []
    for _ in range(6):
        state, metrics = run(state, sharding.put_batch(mesh, batch))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.1
