"""A bank's weights updated every few steps: values, what is left alone, what is saved, bytes."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_bank_step import BATCH, CONFIGS, CONTEXT, PLAIN, make_batch, make_mesh, make_params
from test_bank_step import plain_sum as plain

from specialm import config as config_lib
from specialm.data.groups import GroupSampler
from specialm.models import families, tensors, transformer
from specialm.models.families import bank
from specialm.planning import step_memory
from specialm.training import loop, optimizer, program, sharding, step

STEPS = 24


def settings(every, **changes):
    train = config_lib.default().train
    train.update({"warmup_steps": 3, "clip_norm": 0.5, "bank_every": every, **changes})
    return train


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def states(config, train, mesh, batches, params=None, microbatch=0):
    """[(state on the host, metrics)] after each step."""
    groups = len(batches[0]["features"])
    tx = optimizer.make(train, STEPS, families.declare(config), groups)
    if params:  # as they are, in float64
        state = step.TrainState(jnp.int32(0), jax.tree.map(jnp.array, params), tx.init(params))
    else:
        dtype = train.param_dtype
        state = step.init_state(config, tx, mesh, key=jax.random.key(1), dtype=dtype)
        assert shapes(state) == shapes(step.abstract_state(config, tx, dtype))
    first = shapes(state)
    train_step = program.make_train_step(config, tx, mesh, microbatch)
    found = []
    for batch in batches:
        state, metrics = train_step(state, sharding.put_batch(mesh, batch))
        assert shapes(state) == first
        found.append(jax.device_get((state, metrics)))
    return found


def several(config, groups, count, dtype=np.float32):
    """Batches that differ in their windows, masks and features."""
    made = []
    for number in range(count):
        batch = make_batch(config, groups, dtype)
        rng = np.random.default_rng(number)
        batch["inputs"] = rng.permutation(batch["inputs"])
        batch["mask"] = (rng.random((BATCH, CONTEXT)) < 0.7).astype(dtype)
        batch["features"] = rng.dirichlet(np.ones(config.num_features), groups).astype(dtype)
        made.append(batch)
    return made


class Adam:
    """AdamW in float64, of a tree {name: array}, with a step counter of its own."""

    def __init__(self, train):
        self.train, self.count, self.moments = train, 0, {}

    def moved(self, params, grads, rates, decay):
        self.count += 1
        b1, b2 = self.train.beta1, self.train.beta2
        after = {}
        for name, grad in grads.items():
            m, v = self.moments.get(name, (0.0, 0.0))
            m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
            self.moments[name] = m, v
            u = m / (1 - b1**self.count) / (np.sqrt(v / (1 - b2**self.count)) + 1e-8)
            u += self.train.weight_decay * decay[name] * params[name]
            after[name] = params[name] - rates[name] * u
        return after


def flat(tree):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.mark.parametrize(
    "family,groups,devices,every",
    [("projected", 4, 2, 2), pytest.param("soup", 1, 2, 3, marks=pytest.mark.slow)],
)
def test_parameters_are_those_of_adam_on_the_mean_in_float64(
    family, groups, devices, every, monkeypatch
):
    """Against gradients of project-then-dense and Adam written out: the bank's on the mean of the
    clipped gradients of its steps, at the rate of the step of the update, counted by itself."""
    monkeypatch.setattr(transformer, "sum_nll", plain)
    config, train = CONFIGS[family], settings(every, clip_norm=0.3)
    declared, rate = families.declare(config), optimizer.schedule(train, STEPS)
    with jax.enable_x64(True):
        params, batches = make_params(config, np.float64), several(config, groups, 7, np.float64)
        found = states(config, train, make_mesh(devices), batches, params)
        decay = flat(tensors.map_tensors(lambda tensor: float(tensor.decay), declared))
        slower = flat(
            tensors.map_tensors(
                lambda t: train.mixer_multiplier if t.group == tensors.MIXER else 1.0, declared
            )
        )
        rest, banked, waiting, clipped = Adam(train), Adam(train), [], []
        for number, (batch, (state, metrics)) in enumerate(zip(batches, found, strict=True)):
            loss, grads = jax.device_get(PLAIN(params, batch, config))
            now, grads = flat(params), flat(grads)
            norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
            clipped.append(norm > train.clip_norm)
            np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-12)
            np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-9)
            scale = min(1, train.clip_norm / norm)
            grads = {name: grad * scale for name, grad in grads.items()}
            mine = {name: g for name, g in grads.items() if name.startswith("['bank']")}
            waiting.append(mine)
            rates = {name: slower[name] * float(rate(number)) for name in grads}
            after = dict(now)
            others = {name: g for name, g in grads.items() if name not in mine}
            after |= rest.moved(now, others, rates, decay)
            if len(waiting) == every:
                mean = {name: np.mean([each[name] for each in waiting], axis=0) for name in mine}
                after |= banked.moved(now, mean, rates, decay)
                waiting = []
            for name, value in flat(state.params).items():
                np.testing.assert_allclose(
                    value, after[name], rtol=0, atol=2e-7, err_msg=f"{number} {name}"
                )
            params = state.params
    assert any(clipped)


def test_every_step_is_what_it_was_to_the_bit():
    """With 1 the optimizer is the chain that it has been, of the same state."""
    config, train = CONFIGS["projected"], settings(1)
    batches, mesh = several(config, 4, 3), make_mesh(2)
    declared = families.declare(config)
    decayed = tensors.map_tensors(lambda tensor: tensor.decay, declared)
    in_mixer = tensors.map_tensors(lambda tensor: tensor.group == tensors.MIXER, declared)
    tx = optax.chain(
        optax.clip_by_global_norm(train.clip_norm),
        optax.chain(
            optax.scale_by_adam(train.beta1, train.beta2, mu_dtype="float32"),
            optax.add_decayed_weights(train.weight_decay, decayed),
            optax.scale_by_learning_rate(optimizer.schedule(train, STEPS)),
        ),
        optax.masked(optax.scale(train.mixer_multiplier), in_mixer),
    )
    state = step.init_state(config, tx, mesh, key=jax.random.key(1))
    train_step = program.make_train_step(config, tx, mesh)
    for batch in batches:
        state, _ = train_step(state, sharding.put_batch(mesh, batch))
    jax.tree.map(np.testing.assert_array_equal, states(config, train, mesh, batches)[-1][0], state)


MOMENTS = {
    "float32": {},
    "bfloat16": {
        "param_dtype": "bfloat16",
        "moment_dtype": "bfloat16",
        "second_moment_dtype": "bfloat16",
    },
    "bytes": {"moment_dtype": "int8", "second_moment_dtype": "int8"},
    "factored": {"moment_dtype": "int8", "second_moment_dtype": "factored"},
    "muon": {"optimizer": "muon", "moment_dtype": "int8"},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "float32" else pytest.mark.slow) for name in MOMENTS],
)
def test_the_bank_stands_still_between_updates(name):
    """To the bit, its moments too, while all else moves; with each form of moments, on two devices
    about as on one."""
    config, train = CONFIGS["projected"], settings(2, clip_norm=1e3, **MOMENTS[name])
    batches = several(config, 4, 4)
    two, one = (
        [state for state, _ in states(config, train, mesh, batches)]
        for mesh in (make_mesh(2, fsdp=2), make_mesh(1))
    )

    def same(a, b):
        return [np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)]

    def of_bank(state):
        return state.params["bank"], state.optimizer.bank

    assert all(same(of_bank(two[1]), of_bank(two[2])))
    assert not any(same(two[0].params["bank"], two[1].params["bank"]))
    assert not any(same(two[2].params["bank"], two[3].params["bank"]))
    assert not any(same(two[1].params["mixer"], two[2].params["mixer"]))
    assert [int(count) for count in jax.tree.leaves(two[3].optimizer.bank) if count.ndim == 0]
    assert {int(x) for x in jax.tree.leaves(two[3].optimizer.bank) if x.ndim == 0} == {2}
    assert {int(x) for x in jax.tree.leaves(two[3].optimizer.rest) if x.ndim == 0} == {4}
    start = tensors.init(families.declare(config), jax.random.key(1))
    for a, b, first in zip(
        *(jax.tree.leaves(tree) for tree in (one[-1].params, two[-1].params, start)), strict=True
    ):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.abs(a - b).mean() < 0.1 * np.abs(a - first).mean() + 1e-6


@pytest.mark.slow
def test_training_goes_on_between_updates_to_the_bit(tiny_model, tiny_train, store, tmp_path):
    """Stopped by an error in step 18, resumed from the checkpoint of step 16, one step after an
    update of every third."""
    tiny_train.bank_every, tiny_train.groups = 3, 4
    clusters_N = np.arange(len(store)) % 4
    features = np.eye(4, dtype=np.float32)

    class Stopped(GroupSampler):
        def indices(self, step):
            if step == 17:
                raise RuntimeError("power cut")
            return super().indices(step)

    config = bank.Config(tiny_model, "projected", 4, 4, 4, (0, 1))

    def train(path, kind):
        sampler = kind(
            len(store), tiny_train.batch_size, 0, clusters_N, np.full(4, 0.25), 4, features
        )
        mesh = sharding.make_mesh(tiny_train.batch_size, 4)
        loop.pretrain(path, config, tiny_train, store, sampler, 0, mesh)
        groups = sampler.num_groups
        tx = optimizer.make(tiny_train, STEPS, families.declare(config), groups)
        abstract = loop.with_sharding(
            step.abstract_state(config, tx), step.state_sharding(config, tx, mesh)
        )
        with loop.Checkpoints(path / "checkpoints") as saved:
            number, *parts, _ = saved.restore(abstract.params, (abstract.step, abstract.optimizer))
        assert number == STEPS
        return jax.device_get(parts)

    whole = train(tmp_path / "whole", GroupSampler)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "cut", Stopped)
    jax.tree.map(np.testing.assert_array_equal, train(tmp_path / "cut", GroupSampler), whole)


def test_bytes_are_those_that_the_devices_hold():
    config, mesh, groups, every = CONFIGS["projected"], sharding.make_mesh(BATCH), 2, 3
    sizes = {}
    for n in (1, every):
        tx = optimizer.make(settings(n), 10, families.declare(config), groups)
        state = step.init_state(config, tx, mesh, jax.random.key(0))
        held = sum(
            part.data.nbytes
            for leaf in jax.tree.leaves(state.optimizer)
            for part in leaf.addressable_shards
        )
        found = step_memory.of_step(config, tx, "float32", groups, mesh)
        assert found["moments"] == held
        sizes[n] = step_memory.of_step(config, tx, "float32", groups)["moments"]
    projected = tensors.count(families.declare(config)["bank"]) // config.rank
    coefficients = every * groups * len(config.layers) * config.rank
    counters = 8  # of the second optimizer
    assert sizes[every] - sizes[1] == 4 * (every * groups * projected + coefficients) + counters


@pytest.mark.slow
def test_a_step_without_an_update_moves_few_of_the_banks_bytes(monkeypatch):
    """Compiled for a CPU, by XLA's own count: with h = 32 sets of weights and four groups."""
    config = bank.Config(
        dataclasses.replace(CONFIGS["projected"].model, d_model=32, d_ff=128),
        "projected",
        *(32, 32, 32),
        (0, 1),
    )
    mesh, batch = make_mesh(1), make_batch(config, 4)
    scalars = tensors.count(families.declare(config)["bank"])
    lax_cond = jax.lax.cond

    def compiled(every, cond=lax_cond):
        monkeypatch.setattr(jax.lax, "cond", cond)
        tx = optimizer.make(settings(every), STEPS, families.declare(config), 4)
        state = step.init_state(config, tx, mesh, key=jax.random.key(1))
        train_step = program.make_train_step(config, tx, mesh)
        return train_step.lower(state, sharding.put_batch(mesh, batch)).compile()

    def a_weight(program):
        return program.cost_analysis()["bytes accessed"] / scalars

    every_step = a_weight(compiled(1))
    due = a_weight(compiled(4, lambda _, due, same, *x: due(*x)))
    between = a_weight(compiled(4, lambda _, due, same, *x: same(*x)))
    assert due < every_step + 4 * 4 * 4 / 32 + 4
    assert between < every_step - 28
    assert (3 * between + due) / 4 < every_step - 18
    # What stands still is not copied either: all of the bank and its moments would be 24 bytes.
    text = compiled(4).as_text()
    (names,) = re.findall(r"conditional\(.*branch_computations=\{%([\w.]+), %[\w.]+\}", text)
    same = text[text.index(f"\n%{names} (") :].partition("\n}")[0]
    assert "copy(" in same and all(
        re.search(r"= s32\[\]\S* copy", line) for line in same.splitlines() if " copy(" in line
    )
