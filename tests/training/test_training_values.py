"""Values that a small mistake in training would change: settings, units, bookkeeping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from specialm import config
from specialm.data.sampler import Sampler
from specialm.models import tensors, transformer
from specialm.training import hardware, loop, metrics, optimizer, sharding, step
from specialm.training.checkpoints import Checkpoints


def settings(**changes):
    train = config.default().train
    train.update(changes)
    return train


def moments(state):
    """Adam's part of the state."""
    parts = jax.tree.leaves(state, is_leaf=lambda part: hasattr(part, "mu"))
    (adam,) = [part for part in parts if hasattr(part, "mu")]
    return adam


CONSTANT = {"schedule": "constant", "warmup_steps": 0, "learning_rate": 0.5, "clip_norm": 1e9}
DECLARED = {
    "matrix": tensors.matrix((2, 2), (None, None), tensors.ones),
    "norm": tensors.Tensor((2,), (None,), tensors.ones),
}


def step_of(train, gradient):
    """(parameters after one step from ones, the optimizer's state)."""
    tx = optimizer.make(train, 10, DECLARED)
    params = {"matrix": jnp.ones((2, 2)), "norm": jnp.ones(2)}
    grads = jax.tree.map(lambda leaf: jnp.full_like(leaf, gradient), params)
    updates, state = tx.update(grads, tx.init(params), params)
    return jax.tree.map(jnp.add, params, updates), state


@pytest.mark.parametrize("decay", [0.1, 0.4])
def test_adamw_decays_matrices_by_rate_times_decay(decay):
    params, _ = step_of(settings(optimizer="adamw", weight_decay=decay, **CONSTANT), 0.0)
    np.testing.assert_allclose(params["matrix"], 1 - 0.5 * decay, rtol=1e-6)
    np.testing.assert_array_equal(params["norm"], 1)
    params, _ = step_of(settings(optimizer="adam", weight_decay=decay, **CONSTANT), 0.0)
    np.testing.assert_array_equal(params["matrix"], 1)


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_moment_has_its_dtype_and_both_their_decay(name, dtype):
    train = settings(optimizer=name, moment_dtype=dtype, beta1=0.75, beta2=0.5, **CONSTANT)
    _, state = step_of(train, 2.0)
    adam = moments(state)
    assert adam.mu["matrix"].dtype == dtype and adam.nu["matrix"].dtype == "float32"
    np.testing.assert_allclose(np.float32(adam.mu["matrix"]), 0.5)  # (1 - 0.75) * 2
    np.testing.assert_allclose(adam.nu["matrix"], 2.0)  # (1 - 0.5) * 2 * 2


def test_gradients_are_clipped_at_their_global_norm():
    """The second moment holds what is left of a gradient of norm sqrt(6) * 2."""
    train = settings(optimizer="adam", **{**CONSTANT, "clip_norm": 0.5})
    _, state = step_of(train, 2.0)
    adam = moments(state)
    clipped = 2.0 * 0.5 / (2.0 * np.sqrt(6))
    np.testing.assert_allclose(adam.mu["norm"], (1 - train.beta1) * clipped, rtol=1e-5)


def test_the_loss_is_over_the_tokens_counted_whatever_the_padding():
    """`update` of sums over 3 tokens: loss, gradient and its norm are their means."""
    state = step.TrainState(jnp.zeros((), jnp.int32), {"w": jnp.array([1.0, 2.0])}, ())
    sgd = optax.sgd(1.0)
    changed, found = step.update(
        state.replace(optimizer=sgd.init(state.params)),
        sgd,
        jnp.array(6.0),
        jnp.array(3.0),
        {"w": jnp.array([9.0, 12.0])},
    )
    assert float(found["loss"]) == 2.0 and float(found["grad_norm"]) == 5.0
    np.testing.assert_allclose(changed.params["w"], [1 - 3.0, 2 - 4.0])
    assert int(changed.step) == 1


def test_sums_of_a_batch_are_of_the_tokens_counted(store):
    """Over both devices: sum of a loss, its gradient, and how many tokens the mask counts."""
    tiny = transformer.Config(
        vocab_size=4, context=16, num_layers=1, d_model=2, num_heads=1, d_ff=2
    )
    params = transformer.init(tiny, jax.random.key(0))
    shortest = np.argsort(store.sizes_N)[:4]
    batch, tokens = store.batch(shortest), int(store.sizes_N[shortest].sum())
    assert 0 < tokens < 4 * 16

    def sum_loss(params, part, fixed, place):
        return 3 * jnp.sum(params["embed"]["tokens"][1, 0] * part["mask"])

    mesh = sharding.make_mesh(4)
    sums = jax.jit(step.make_sums(tiny, mesh, sum_loss, 1))
    total, count, grads = sums(params, sharding.put_batch(mesh, batch), ())
    assert mesh.devices.size == 2 and float(count) == tokens
    assert float(total) == pytest.approx(3 * tokens * float(params["embed"]["tokens"][1, 0]))
    assert float(grads["embed"]["tokens"][1, 0]) == 3 * tokens


def test_two_checkpoints_stay_unless_more_are_asked_for(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for number in (1, 2, 3):
            checkpoints.save(number, {"w": jnp.full(2, float(number))}, None, {})
    assert Checkpoints(tmp_path).steps() == [2, 3]


def test_metrics_of_a_run(tiny_model, tiny_train, store, tmp_path, monkeypatch):
    """Seconds add up, and MFU is of the peak of all devices."""
    monkeypatch.setattr(hardware, "peak_flops", lambda device: 7e9)
    tiny_train.tokens, tiny_train.log_every = 6 * 8 * 16, 2
    mesh = sharding.make_mesh(8)
    sampler = Sampler(len(store), 8, 0)
    entry = loop.pretrain(tmp_path / "run", tiny_model, tiny_train, store, sampler, 0, mesh)
    records = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records] == [2, 4, 6]
    seconds = [record["seconds"] for record in records]
    assert 0 < seconds[0] < seconds[1] < seconds[2] == entry["seconds"]
    flops = transformer.flops_per_token(tiny_model, True)
    for record, before in zip(records, [0, *seconds], strict=False):
        took = record["seconds"] - before
        assert record["tokens_per_second"] == pytest.approx(2 * 8 * 16 / took, rel=1e-6)
        peak = mesh.devices.size * 7e9
        assert record["mfu"] == pytest.approx(record["tokens_per_second"] * flops / peak)
    assert mesh.devices.size == 2
