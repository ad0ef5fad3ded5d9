import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models.test_bank import random_features, random_params
from models.test_transformer import reference_loss

from specialm.common.errors import UserError
from specialm.models import placement, tensors, transformer
from specialm.models.families import bank, mixture
from specialm.training import bank_step, program, sharding, step

CONTEXT, BATCH = 6, 8
MODEL = transformer.Config(
    vocab_size=11, context=CONTEXT, num_layers=2, d_model=8, num_heads=2, d_ff=12
)
CONFIGS = {
    "dense": bank.Config(MODEL, "dense", 4, 1, 1, (0, 1)),
    "projected": bank.Config(MODEL, "projected", 4, 3, 2, (1,)),
    "hypernetwork": bank.Config(MODEL, "hypernetwork", 4, 3, 2, (0,), features=3, hidden=5),
    "soup": bank.Config(MODEL, "soup", 4, 3, 2, (0, 1), hidden=5),
    # Two loops over layers of each kind.
    "in_turns": bank.Config(dataclasses.replace(MODEL, num_layers=6), "dense", 4, 1, 1, (1, 2, 4)),
}


def make_mesh(devices, **layout):
    return jax.make_mesh(
        sharding.axis_sizes(devices, layout),
        sharding.AXES,
        devices=jax.devices()[:devices],
        axis_types=(jax.sharding.AxisType.Auto,) * 4,
    )


def make_batch(config, groups, dtype=np.float32):
    """Random windows, a fifth of the tokens not counted."""
    rng = np.random.default_rng(5)
    inputs, targets = rng.integers(0, MODEL.vocab_size, (2, BATCH, CONTEXT))
    mask = (rng.random((BATCH, CONTEXT)) < 0.8).astype(dtype)
    return {
        "inputs": inputs,
        "targets": targets,
        "mask": mask,
        "features": random_features(config, groups, dtype=dtype),
    }


def make_params(config, dtype=np.float32):
    """Values that keep the activations' scale: a network of plain normal ones is too rough."""
    return jax.tree.map(lambda leaf: 0.4 * leaf, random_params(bank.declare(config), 1, dtype))


def run_step(train_step, params, batch, optimizer, mesh):
    """(params, metrics) after one step from fresh copies."""
    state = step.TrainState(
        jnp.zeros((), jnp.int32), jax.tree.map(jnp.array, params), optimizer.init(params)
    )
    state, metrics = train_step(state, sharding.put_batch(mesh, batch))
    assert int(state.step) == 1
    return jax.device_get((state.params, metrics))


def fetched(params, sent):
    """With the weights of all layers in their order, fetched one layer after the other."""
    layers = dict(params["layers"])
    slices = layers.pop(placement.SENT)
    outside = [y for y in range(MODEL.num_layers) if y not in sent.layers]
    for name in sent.parts:
        each = {
            y: jax.tree.map(lambda leaf, row=row: leaf[row], layers[name])
            for row, y in enumerate(outside)
        }
        each |= {
            y: sent.fetch(jax.tree.map(lambda leaf, row=row: leaf[row], slices))[name]
            for row, y in enumerate(sent.layers)
        }
        layers[name] = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *(each[y] for y in sorted(each))
        )
    return {**params, "layers": layers}


def plain_sum(params, inputs, targets, mask, config, place=None, dropout=None, frozen=0):
    """`transformer.sum_nll` in the precision of the parameters."""
    assert dropout is None and not frozen
    if place and place.sent:
        params = fetched(params, place.sent)
    return reference_loss(params, inputs, targets, mask, config.num_heads) * mask.sum()


def plain_loss(params, batch, config):
    """Project, then a dense model for each group: no exchange, no parts of a batch."""
    coefficients = bank.coefficients(params.get("mixer", {}), batch["features"], config)
    parts = [
        batch[name].reshape(len(coefficients), -1, CONTEXT)
        for name in ("inputs", "targets", "mask")
    ]

    def group(c, inputs, targets, mask):
        return plain_sum(bank.project(params, c, config), inputs, targets, mask, config.model)

    return jax.vmap(group)(coefficients, *parts).sum() / batch["mask"].sum()


PLAIN = jax.jit(jax.value_and_grad(plain_loss), static_argnums=2)


def assert_close(ours, theirs, relative):
    """Every tensor to a tolerance relative to its largest value."""
    for (path, leaf), want in zip(
        jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
    ):
        scale = np.abs(want).max() + 1e-6
        np.testing.assert_allclose(
            leaf, want, rtol=0, atol=relative * scale, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize(
    "family,groups,devices,microbatch",
    [
        ("projected", 4, 2, 2),
        ("hypernetwork", 2, 1, 2),
        ("soup", 1, 2, 2),
        ("projected", 4, 2, 4),  # of 4 windows on each device: groups side by side
        ("projected", 2, 2, 4),  # one group alone
    ],
)
def test_loss_and_gradients_in_float64(family, groups, devices, microbatch, monkeypatch):
    """Those of project-then-dense, and central differences of the step's own loss.

    The transformer sums in float32; here its loss is the plain formula, all else is real.
    """
    monkeypatch.setattr(transformer, "sum_nll", plain_sum)
    config, mesh, optimizer = CONFIGS[family], make_mesh(devices), optax.sgd(1.0)
    params, batch = make_params(config, np.float64), make_batch(config, groups, np.float64)
    with jax.enable_x64(True):
        train_step = bank_step.make_train_step(config, optimizer, mesh, microbatch)
        after, metrics = run_step(train_step, params, batch, optimizer, mesh)
        grads = jax.tree.map(lambda a, b: a - b, params, after)  # a step of rate 1
        want, want_grads = jax.device_get(PLAIN(params, batch, config))
        np.testing.assert_allclose(metrics["loss"], want, rtol=1e-12)
        assert metrics["loss"].dtype == np.float64
        assert_close(grads, want_grads, 1e-10)
        norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(want_grads)))
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-10)
        for part in ("shared", "bank", "mixer"):
            direction = random_params(bank.declare(config)[part], 3)
            losses = []
            for size in (1e-5, -1e-5):
                moved = jax.tree.map(
                    lambda leaf, d, size=size: leaf + size * d, params[part], direction
                )
                losses.append(
                    run_step(train_step, {**params, part: moved}, batch, optimizer, mesh)[1]["loss"]
                )
            slope = sum(
                jax.tree.leaves(
                    jax.tree.map(lambda grad, d: np.sum(grad * d), grads[part], direction)
                )
            )
            np.testing.assert_allclose(
                (losses[0] - losses[1]) / 2e-5, slope, rtol=1e-6, atol=1e-8, err_msg=part
            )


@pytest.mark.parametrize(
    "family,groups,devices,microbatch",
    [
        ("projected", 4, 2, 1),
        ("dense", 1, 2, 0),
        ("projected", 4, 2, 4),
        ("projected", 2, 2, 4),
        ("soup", 4, 1, 8),
        ("in_turns", 4, 2, 4),
    ],
)
def test_loss_and_gradients_as_they_are_trained(family, groups, devices, microbatch):
    """The same in float32 with nothing replaced."""
    config, mesh, optimizer = CONFIGS[family], make_mesh(devices), optax.sgd(1.0)
    params, batch = make_params(config), make_batch(config, groups)
    train_step = bank_step.make_train_step(config, optimizer, mesh, microbatch)
    after, metrics = run_step(train_step, params, batch, optimizer, mesh)
    want, want_grads = jax.device_get(PLAIN(params, batch, config))
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-5)
    assert_close(jax.tree.map(lambda a, b: a - b, params, after), want_grads, 1e-4)


def test_an_expert_moves_by_the_rate_times_the_sum_of_its_coefficients():
    """Adam's first step on one expert's windows, from the initial values, as `declare` says."""
    model = dataclasses.replace(MODEL, num_layers=1)
    config = bank.Config(model, "projected", 4, 5, 5, (0,))
    rate, mesh = 1e-3, make_mesh(1)
    optimizer = optax.adam(rate, eps=1e-12)
    declared, key = bank.declare(config), jax.random.key(0)
    params = {
        "shared": make_params(config)["shared"],
        "bank": tensors.init(declared["bank"], key),
        "mixer": tensors.init(declared["mixer"], key),
    }
    batch = {**make_batch(config, 1), "features": np.eye(4, dtype=np.float32)[[2]]}
    after, _ = run_step(
        bank_step.make_train_step(config, optimizer, mesh), params, batch, optimizer, mesh
    )
    one_hot = np.eye(4, dtype=np.float32)
    before, moved = (
        np.asarray(bank.coefficients(p["mixer"], one_hot, config)) for p in (params, after)
    )
    for expert, others in ((2, False), (0, True)):
        up, new = (
            bank.mix(p["bank"], c[[expert]])["mlp"]["up"][0]
            for p, c in ((params, before), (after, before))
        )
        steps = np.abs(new - up) / rate
        # Another expert's weights move by what it has in common with this one: the first term.
        total = np.abs(before[expert, 0, :1] if others else before[expert, 0]).sum()
        assert steps.max() <= total * 1.001
        assert np.median(steps) >= total * 0.99
    # What the moved coefficients add is a small part of that.
    up, new = (np.asarray(bank.mix(after["bank"], c[[2]])["mlp"]["up"][0]) for c in (before, moved))
    assert 0 < np.abs(new - up).max() < 0.5 * np.abs(before[2, 0]).sum() * rate


@pytest.mark.parametrize(
    "change,config,named",
    [
        ({"d_ff": 5}, "projected", "model.d_ff=5"),
        ({"d_model": 7, "num_heads": 1}, "soup", "model.d_model=7"),
        ({}, "mixture", "model.num_experts=3"),
    ],
)
def test_sizes_that_do_not_divide_over_the_devices_are_named(change, config, named):
    model = dataclasses.replace(MODEL, **change)
    layout = {"expert": 2} if config == "mixture" else {}
    config = (
        mixture.Config(model, 3)
        if config == "mixture"
        else dataclasses.replace(CONFIGS[config], model=model)
    )
    with pytest.raises(UserError, match=f"{named} is not a multiple of the 2 devices"):
        program.make_train_step(config, optax.sgd(1.0), make_mesh(2, **layout))
