"""A body and a head tuned on frozen embeddings: gradients, counts, heads by hand, the swap."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from scipy.special import log_softmax
from test_adaptation import BERT, ROPE, SIZES, compiled_flops

from specialm.models import task_heads, tensors, transformer
from specialm.specialize import adaptation, task_tuning, tuning_step
from specialm.training import sharding

MODELS = {
    "learned, tied": dataclasses.replace(SIZES, num_layers=2, exits=()),
    "rope, untied": dataclasses.replace(ROPE, num_layers=2, exits=()),
    "masked": dataclasses.replace(BERT, num_layers=2, exits=()),
}
KINDS = ("classification", "spans")
CLASSES = 3


@functools.cache
def params_of(config):
    return jax.device_get(jax.jit(transformer.init, static_argnums=0)(config, jax.random.key(1)))


def batch_of(config, rows=4, length=None):
    rng = np.random.default_rng(0)
    length = length or config.context
    shape = (rows, length)
    sizes = rng.integers(length // 2, length + 1, rows)
    present = (np.arange(length) < sizes[:, None]).astype("f")
    allowed = present * (np.arange(length) >= 4)
    span = np.sort(rng.integers(4, length // 2, (rows, 2)), axis=1)
    return {
        "inputs": rng.integers(3, config.vocab_size, shape, dtype=np.int32),
        "present": present,
        "allowed": allowed.astype("f"),
        "mask": np.ones(rows, "f"),
        "label": rng.integers(0, CLASSES, rows, dtype=np.int32),
        "span": span.astype(np.int32),
    }


def with_head(config, kind, scale=1.0):
    head = tensors.init(task_heads.declare(config, kind, CLASSES), jax.random.key(3))
    head = jax.tree.map(lambda leaf: np.asarray(leaf) * scale, head)
    return {**params_of(config), task_heads.TASK: head}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_loss_is_that_of_numpy(name, kind):
    """From the states that the model gives: the last token's, the mean, or every token's."""
    config = MODELS[name]
    params, batch = with_head(config, kind, 30.0), batch_of(config)
    x_BxLxD = (
        np.asarray(
            transformer.hidden(params, batch["inputs"], config, mask_BxL=batch["present"])["last"]
        )
        .reshape(4, config.context, -1)
        .astype("d")
    )
    out, bias = (np.asarray(params["task"][each], "d") for each in ("out", "bias"))
    total = 0.0
    for row in range(4):
        size = int(batch["present"][row].sum())
        if kind == "classification":
            state = x_BxLxD[row, size - 1] if config.causal else x_BxLxD[row, :size].mean(0)
            total -= log_softmax(state @ out + bias)[batch["label"][row]]
        else:
            places = np.flatnonzero(batch["allowed"][row])
            log_p = log_softmax(x_BxLxD[row, places] @ out + bias, axis=0)
            for end in (0, 1):
                place = list(places).index(batch["span"][row, end])
                total -= log_p[place, end] / 2
    found = task_heads.sum_losses(params, batch, config, kind)
    np.testing.assert_allclose(found, total, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "kind", "layout"),
    [
        ("learned, tied", "classification", {}),
        ("rope, untied", "spans", {"fsdp": 2}),
        ("masked", "classification", {"model": 2}),
    ],
)
def test_a_step_changes_body_and_head_by_their_gradient_and_no_row(name, kind, layout):
    config = MODELS[name]
    params, batch = params_of(config), batch_of(config)
    trained = task_tuning.body_and_head(config, params, kind, CLASSES, seed=3)
    whole = trained.to_params(trained.start, trained.fixed)

    def mean(params):
        return task_heads.sum_losses(params, batch, config, kind) / 4

    wanted = jax.device_get(jax.jit(jax.grad(mean))(whole))
    tx, mesh = optax.sgd(1.0), sharding.make_mesh(4, layout=layout)
    objective = task_tuning.objective(config, kind)
    train_step = tuning_step.make_train_step(trained, objective, tx, mesh, 2)
    state, _ = train_step(
        tuning_step.init_state(trained, tx, mesh), sharding.put_batch(mesh, batch)
    )
    after = jax.device_get(trained.to_params(state.params, trained.fixed))
    rows, moved = set(adaptation.row_tensors(config)), 0.0
    for path, _ in tensors.flatten(task_tuning.declare(config, kind, CLASSES)):
        before, now = (np.asarray(tensors.get(tree, path)) for tree in (whole, after))
        if path in rows:
            np.testing.assert_array_equal(now, before)
            continue
        grad = tensors.get(wanted, path)
        np.testing.assert_allclose(now, before - grad, rtol=1e-4, atol=1e-6)
        moved = max(moved, np.abs(grad).max())
    assert moved > 1e-3
    assert {path[0] for path, _ in tensors.flatten(trained.declared)} <= {
        "position", "layers", "heads", "task",
    }  # fmt: skip


def test_rows_of_tokens_are_not_differentiated():
    """By XLA's own count of the compiled step, with which ours agrees: the step that trains rows
    too has as many more as updating them takes, and the products before the first layer."""
    kind = "spans"
    wide = {"d_model": 64, "d_ff": 256, "vocab_size": 4096, "positions": "rope"}
    config = dataclasses.replace(SIZES, num_layers=2, exits=(), **wide)
    params, batch = params_of(config), batch_of(config)
    trained = task_tuning.body_and_head(config, params, kind, CLASSES, seed=0)
    whole = task_tuning.declare(config, kind, CLASSES)
    everything = dataclasses.replace(
        trained,
        start=trained.to_params(trained.start, trained.fixed),
        declared=whole,
        to_params=lambda all_of_it, fixed: all_of_it,
        fixed=(),
        fixed_axes=(),
    )
    objective, mesh = task_tuning.objective(config, kind), sharding.make_mesh(1)
    counted = [
        compiled_flops(each, objective, optax.sgd(1.0), mesh, batch)
        for each in (trained, everything)
    ]
    rows = config.vocab_size * config.d_model
    assert counted[1] - counted[0] > 2 * rows
    tokens = 4 * config.context
    assert trained.flops_per_token == pytest.approx(counted[0] / tokens, rel=0.08)


def test_another_models_embeddings_take_the_place():
    """Of a model with another vocabulary; what is tuned is as it was, bit for bit."""
    config = MODELS["rope, untied"]
    tuned = with_head(config, "spans")
    other_config = dataclasses.replace(config, vocab_size=40)
    other = params_of(other_config)
    made = task_tuning.swapped(tuned, other)
    for path, tensor in tensors.flatten(task_tuning.declare(other_config, "spans", 0)):
        value = tensors.get(made, path)
        assert value.shape == tensor.shape
        of = other if path in adaptation.row_tensors(other_config) else tuned
        np.testing.assert_array_equal(value, tensors.get(of, path))


def test_a_fingerprint_is_of_the_body_alone():
    config = MODELS["rope, untied"]
    params = params_of(config)
    found = task_tuning.fingerprint(params)
    rows = tensors.updated(params, adaptation.EMBED, np.zeros((9, 32), "f"))
    assert task_tuning.fingerprint(rows) == found
    for path, _ in tensors.flatten(task_tuning.declare_body(config)):
        value = np.array(tensors.get(params, path))
        value.reshape(-1)[-1] += 1e-6
        assert task_tuning.fingerprint(tensors.updated(params, path, value)) != found, path


def test_heads_behind_inner_layers_are_left_out():
    params = params_of(SIZES)
    last, config = task_tuning.last_head_alone(params, SIZES)
    assert config.exits == () and set(last["heads"]) == {"last"}
    assert task_tuning.fingerprint(last) == task_tuning.fingerprint(params)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_do_not_depend_on_the_batch(kind):
    config = MODELS["masked"]
    params, mesh = with_head(config, kind, 30.0), sharding.make_mesh(2)

    class Windows:
        columns = batch_of(config, rows=7, length=16)

        def __len__(self):
            return 7

        def batch(self, indices):
            return {name: values[indices] for name, values in self.columns.items()}

    found = [
        task_tuning.predict(params, config, kind, CLASSES, Windows(), size, mesh) for size in (2, 8)
    ]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)
    sums = np.exp(found[0]).sum(1)
    np.testing.assert_allclose(sums, np.ones_like(sums), rtol=1e-5)
