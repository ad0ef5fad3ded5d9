import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models.test_bank import random_params
from test_bank_step import assert_close, make_mesh, plain_sum

from specialm import config
from specialm.data.groups import ExpertSampler, MixtureSampler
from specialm.models import families, transformer
from specialm.models.families import mixture
from specialm.training import optimizer, program, sharding, step

EXPERTS, BATCH, STEPS, SEED = 4, 8, 5, 3
MODEL = transformer.Config(vocab_size=11, context=6, num_layers=1, d_model=8, num_heads=2, d_ff=12)


@pytest.fixture(scope="module")
def windows():
    """(batches by index, cluster of each window), random, some tokens not counted."""
    rng = np.random.default_rng(0)
    cluster_N = rng.permutation(np.arange(50) % EXPERTS)
    inputs, targets = rng.integers(0, MODEL.vocab_size, (2, 50, MODEL.context))
    mask = (rng.random((50, MODEL.context)) < 0.8).astype(np.float32)
    parts = {"inputs": inputs, "targets": targets, "mask": mask}
    return lambda indices: {name: part[indices] for name, part in parts.items()}, cluster_N


def make_trainer(sizes, devices):
    """A function sampler, read -> (state on the host, metrics of every step); first parameters."""
    settings = config.default().train
    settings.warmup_steps, settings.learning_rate, settings.clip_norm = 2, 1e-2, 0.5
    tx, mesh = optimizer.make(settings, STEPS, families.declare(sizes)), make_mesh(devices)
    first = jax.device_get(step.init_state(sizes, tx, mesh, jax.random.key(7)))
    layout = step.state_sharding(sizes, tx, mesh)
    train_step = program.make_train_step(sizes, tx, mesh)

    def train(sampler, read):
        state, metrics = jax.device_put(first, layout), []
        for number in range(STEPS):
            batch = sharding.put_batch(mesh, read(sampler.indices(number)))
            state, values = train_step(state, batch)
            metrics.append({name: float(value) for name, value in values.items()})
        return jax.device_get(state), metrics

    return train, first.params


def test_joint_training_is_training_each_expert_alone(windows):
    """Parameters, optimiser states and metrics, of experts that start as the same dense model."""
    read, cluster_N = windows
    train, start = make_trainer(mixture.Config(MODEL, EXPERTS), devices=2)
    joint, metrics = train(MixtureSampler(BATCH, SEED, cluster_N, EXPERTS), read)
    assert int(joint.step) == STEPS
    train_alone, first = make_trainer(MODEL, devices=1)
    alone = []
    for expert in range(EXPERTS):
        one = jax.tree.map(lambda leaf, expert=expert: leaf[expert], start)
        jax.tree.map(np.testing.assert_array_equal, one, first)
        sampler = ExpertSampler(BATCH // EXPERTS, SEED, cluster_N, expert)
        state, values = train_alone(sampler, read)
        mine = jax.tree.map(
            lambda leaf, expert=expert: leaf[expert], (joint.params, joint.optimizer)
        )
        for (path, ours), theirs in zip(
            jax.tree_util.tree_leaves_with_path(mine),
            jax.tree.leaves((state.params, state.optimizer)),
            strict=True,
        ):
            name = jax.tree_util.keystr(path)
            if np.issubdtype(theirs.dtype, np.integer):
                assert ours == theirs == STEPS, name
            if "qkv_bias" in name:  # softmax ignores a bias of the keys: its gradient is a rounding
                ours, theirs = (np.delete(a, 1, axis=1) for a in (ours, theirs))  # error
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6, err_msg=name)
        alone.append(values)
    for number, values in enumerate(metrics):
        for name in ("loss", "grad_norm"):
            mean = np.mean([one[number][name] for one in alone])
            assert values[name] == pytest.approx(mean, rel=1e-5)
    up = np.asarray(joint.params["layers"]["mlp"]["up"])
    assert all(np.abs(up[a] - up[b]).max() > 1e-3 for a in range(EXPERTS) for b in range(a))


def plain_loss(params, batch):
    """Mean nats of one expert's windows."""
    nll = plain_sum(params, batch["inputs"], batch["targets"], batch["mask"], MODEL)
    return nll / batch["mask"].sum()


@pytest.mark.parametrize("devices,each", [(1, 8), (2, 4)])
def test_experts_side_by_side_in_float64(devices, each, windows, monkeypatch):
    """With all windows of a device at once: every expert's loss and gradient are those of its plain
    formula, and of experts that go one after the other."""
    monkeypatch.setattr(transformer, "sum_nll", plain_sum)
    read, _ = windows
    sizes, mesh, sgd = mixture.Config(MODEL, EXPERTS), make_mesh(devices), optax.sgd(1.0)
    with jax.enable_x64(True):
        params = jax.tree.map(
            lambda leaf: 0.4 * leaf, random_params(mixture.declare(sizes), 1, np.float64)
        )
        batch = {name: value[:BATCH] for name, value in read(np.arange(BATCH)).items()}
        batch["mask"] = batch["mask"].astype(np.float64)
        found = {}
        for microbatch in (1, each):
            train_step = program.make_train_step(sizes, sgd, mesh, microbatch)
            state = step.TrainState(
                jnp.int32(0), jax.tree.map(jnp.array, params), jax.vmap(sgd.init)(params)
            )
            batched = sharding.put_batch(mesh, batch)
            text = str(jax.make_jaxpr(train_step)(state, batched))
            assert (f"length={EXPERTS // mesh.shape['expert']}" in text) == (microbatch == 1)
            state, metrics = train_step(state, batched)
            found[microbatch] = jax.device_get((state.params, metrics))
        by_expert = jax.tree.map(lambda leaf: leaf.reshape(EXPERTS, -1, MODEL.context), batch)
        losses, grads = jax.vmap(jax.value_and_grad(plain_loss))(params, by_expert)
        for after, metrics in found.values():
            np.testing.assert_allclose(metrics["loss"], losses.mean(), rtol=1e-12)
            assert_close(jax.tree.map(np.subtract, params, after), grads, 1e-10)
