"""What is trained of a model that gets a new vocabulary, and how it comes back into the model."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from scipy import sparse

from specialm.common.errors import UserError
from specialm.models import tensors, transformer
from specialm.specialize import adaptation, tuning_step
from specialm.training import objectives, sharding

SIZES = transformer.Config(
    vocab_size=64, context=32, num_layers=4, d_model=32, num_heads=2, d_ff=64, exits=(2,)
)
ROPE = dataclasses.replace(SIZES, positions="rope", head="untied", norm="rmsnorm", mlp="swiglu")
BERT = dataclasses.replace(SIZES, causal=False)
MODELS = {"rope, untied": ROPE, "masked": BERT}


@functools.cache
def params_of(config):
    return jax.device_get(jax.jit(transformer.init, static_argnums=0)(config, jax.random.key(1)))


def batch_of(config, rows=4):
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, config.vocab_size, (rows, config.context), dtype=np.int32)
    return {"inputs": tokens, "targets": np.roll(tokens, -1, 1), "mask": np.ones(tokens.shape, "f")}


def step_of(config, trained, frozen=0, lower=False):
    """(what is trained after a step, metrics), or the FLOPs that XLA counts in it."""
    mesh = sharding.make_mesh(1)
    name = "next_token" if config.causal else "masked"
    objective = objectives.make(name, config, frozen)
    tx = optax.sgd(1.0)
    batch = objective.transform(batch_of(config), 0, 0, np.arange(4))
    if lower:
        return compiled_flops(trained, objective, tx, mesh, batch)
    train_step = tuning_step.make_train_step(trained, objective, tx, mesh, 4)
    return train_step(tuning_step.init_state(trained, tx, mesh), batch)


def compiled_flops(trained, objective, tx, mesh, batch):
    found = []
    real = jax.jit

    def jit(function, **options):
        made = real(function, **options)

        def call(*args):
            found.append(made.lower(*args).compile().cost_analysis()["flops"])

        return call

    state = tuning_step.init_state(trained, tx, mesh)
    tuning_step.jax.jit = jit
    try:
        tuning_step.make_train_step(trained, objective, tx, mesh, 4)(state, batch)
    finally:
        tuning_step.jax.jit = real
    return found[0]


def gradients(config, params, frozen=0):
    """Of the same loss with respect to everything, by JAX alone."""
    name = "next_token" if config.causal else "masked"
    objective = objectives.make(name, config)
    batch = objective.transform(batch_of(config), 0, 0, np.arange(4))
    loss = jax.jit(
        jax.grad(
            lambda p: objective.sum_loss(p, batch, (), transformer.WHOLE) / batch["mask"].sum()
        )
    )
    return jax.device_get(loss(params))


@pytest.mark.parametrize("name", MODELS)
def test_a_step_changes_the_rows_by_their_gradient_and_nothing_else(name):
    config, params = MODELS[name], params_of(MODELS[name])
    shallow, small = adaptation.shallow(params, config, 2)
    assert small.num_layers == 2 and small.exits == ()
    trained = adaptation.rows_alone(small, shallow)
    state, _ = step_of(small, trained)
    after = jax.device_get(trained.to_params(state.params, trained.fixed))
    wanted = gradients(small, shallow)
    rows = set(adaptation.row_tensors(small))
    assert rows == {adaptation.EMBED} | ({adaptation.OUT} if config.head == "untied" else set())
    for path, _ in tensors.flatten(transformer.declare(small)):
        before, now = tensors.get(shallow, path), tensors.get(after, path)
        if path in rows:
            grad = tensors.get(wanted, path)
            np.testing.assert_allclose(now, before - grad, rtol=1e-4, atol=1e-6)
            assert np.abs(grad).max() > 1e-4
        else:
            np.testing.assert_array_equal(now, before)


def test_a_step_of_minipost_changes_the_layers_on_top():
    config, params = SIZES, params_of(SIZES)
    start, small = adaptation.heightened(params, config, 1, 2, seed=3)
    assert small.num_layers == 3 and small.exits == () and set(start["heads"]) == {"last"}
    trained = adaptation.layers_above(small, start, 1)
    state, _ = step_of(small, trained, frozen=1)
    after = jax.device_get(trained.to_params(state.params, trained.fixed))
    wanted = gradients(small, start)
    norm = ("heads", "last", "norm")
    for path, _ in tensors.flatten(transformer.declare(small)):
        before, now = (np.asarray(tensors.get(tree, path)) for tree in (start, after))
        step = np.asarray(tensors.get(wanted, path))
        first = {"layers": 1}.get(path[0], 0 if path[:3] == norm else len(before))
        np.testing.assert_array_equal(now[:first], before[:first])
        moved = now[first:], (before - step)[first:]
        np.testing.assert_allclose(*moved, rtol=1e-4, atol=1e-6)
    for path, _ in tensors.flatten(transformer.declare_layer(config)):
        kept = tensors.get(start["layers"], path)[0]
        np.testing.assert_array_equal(kept, tensors.get(params["layers"], path)[0])


def test_only_what_is_trained_is_differentiated():
    """By XLA's own count of the compiled steps; ours agrees."""
    config = dataclasses.replace(SIZES, d_model=64, d_ff=256, exits=(), vocab_size=128)
    params, tokens = params_of(config), 4 * config.context
    everything = tuning_step.everything(config, params)
    start, small = adaptation.heightened(params, config, 2, 2, seed=0)
    maps = {
        "everything": (config, everything, 0),
        "rows": (config, adaptation.rows_alone(config, params), 0),
        "above": (small, adaptation.layers_above(small, start, 2), 2),
    }
    counted = {n: step_of(c, m, frozen, lower=True) for n, (c, m, frozen) in maps.items()}
    for name, (_, trained, _) in maps.items():
        assert trained.flops_per_token == pytest.approx(counted[name] / tokens, rel=0.08), name
    assert counted["rows"] < 0.8 * counted["everything"]
    assert counted["above"] < 0.8 * counted["everything"]


def weights_of(new, old, seed=0):
    dense = np.random.default_rng(seed).random((new, old)) * (np.arange(new) % 3 > 0)[:, None]
    return sparse.csr_matrix(dense)


@pytest.mark.parametrize("config", [SIZES, ROPE], ids=["tied", "untied"])
def test_rows_learnt_in_a_shallow_model_come_back(config):
    """All but rows is bit-identical; of an untied head the last one follows the one that learnt."""
    params = params_of(config)
    weights = weights_of(50, 64)
    last = {**params, "heads": {"last": params["heads"]["last"]}}
    alone = dataclasses.replace(config, exits=())
    whole, target = adaptation.with_rows(last, alone, weights, 0)
    assert target.vocab_size == 50
    tensors_now = dict(tensors.flatten(transformer.declare(target)))
    assert {p: tensors.get(whole, p).shape for p in tensors_now} == {
        p: t.shape for p, t in tensors_now.items()
    }
    old_rows = np.asarray(weights @ params["embed"]["tokens"])[1::3]
    np.testing.assert_allclose(whole["embed"]["tokens"][1::3], old_rows, rtol=1e-5)
    start, small = adaptation.with_rows(*adaptation.shallow(params, config, 2), weights, 0)
    np.testing.assert_array_equal(start["embed"]["tokens"], whole["embed"]["tokens"])
    rng = np.random.default_rng(5)
    learnt = start
    for path in adaptation.row_tensors(small):
        changed = tensors.get(start, path) + rng.normal(size=(50, 32)).astype("f")
        learnt = tensors.updated(learnt, path, changed)
    made = adaptation.put_back(whole, target, learnt, start, "layer2", params)
    rows = set(adaptation.row_tensors(target))
    for path in tensors_now:
        if path not in rows:
            np.testing.assert_array_equal(tensors.get(made, path), tensors.get(params, path))
    np.testing.assert_array_equal(made["embed"]["tokens"], learnt["embed"]["tokens"])
    if config.head == "untied":
        out = learnt["heads"]["last"]["out"]
        a, b = (params["heads"][n]["out"].astype("d") for n in ("layer2", "last"))
        change = (out - start["heads"]["last"]["out"]) @ np.linalg.solve(a.T @ a, a.T @ b)
        wanted = whole["heads"]["last"]["out"] + change
        np.testing.assert_allclose(made["heads"]["last"]["out"], wanted, rtol=1e-3, atol=1e-4)


def test_a_model_with_shared_layers_keeps_them():
    config = dataclasses.replace(SIZES, share=("mlp:all",))
    params = params_of(config)
    shallow, small = adaptation.shallow(params, config, 2)
    assert small.share == () and len(shallow["layers"]["mlp"]["up"]) == 2
    start, tall = adaptation.heightened(params, config, 2, 1, 0)
    assert tall.share == () and len(start["layers"]["mlp"]["up"]) == 3
    assert adaptation.with_rows(params, config, weights_of(9, 64), 0)[1].share == config.share


@pytest.mark.parametrize(
    ("config", "layer", "message"),
    [
        (SIZES, 5, "--layer=5: must be between 1 and 4"),
        (SIZES, 3, r"--layer=3: --via=mini_joint needs a head.*behind \(2,\)"),
        (dataclasses.replace(SIZES, exits=()), 2, "behind the last layer alone"),
    ],
)
def test_a_head_that_is_not_there_is_named(config, layer, message):
    with pytest.raises(UserError, match=message):
        adaptation.shallow(params_of(config), config, layer)


def test_other_things_that_cannot_be_are_named():
    params = params_of(SIZES)
    with pytest.raises(UserError, match="--layer=4: --via=mini_post keeps some .* 1 to 3"):
        adaptation.heightened(params, SIZES, 4, 2, 0)
    with pytest.raises(UserError, match="--new_layers=0: must be at least 1"):
        adaptation.heightened(params, SIZES, 2, 0, 0)
    with pytest.raises(UserError, match="model.embedder='bytes': has no row for each token"):
        adaptation.check(dataclasses.replace(SIZES, embedder="bytes", head="untied"))
    with pytest.raises(UserError, match="model.embedder='ngrams': its tables know n-grams of"):
        adaptation.check(dataclasses.replace(SIZES, embedder="ngrams"))
    with pytest.raises(UserError, match="model.head='bytes': has no row for each token"):
        adaptation.check(dataclasses.replace(SIZES, head="bytes"))
