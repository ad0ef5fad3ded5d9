import copy
import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
from gpt2_names import named

from specialm import config
from specialm.common.errors import UserError
from specialm.data.sampler import Sampler
from specialm.models import lora, tensors, transformer
from specialm.specialize import averaging, finetune, tuning_step
from specialm.training import adapters as adapters_lib
from specialm.training import (
    divergence,
    metrics,
    objectives,
    optimizer,
    runs,
    scoring,
    sharding,
    step,
)
from specialm.training.checkpoints import Checkpoints


@pytest.fixture(scope="module")
def settings():
    made = config.default()
    made.train.tensorboard = False
    made.train.learning_rate = 0.03
    tune = made.finetune
    tune.batch_size, tune.eval_every, tune.patience, tune.max_steps = 8, 5, 3, 60
    tune.checkpoint_every, tune.warmup_steps = 10, 2
    return made


@pytest.fixture(scope="module")
def specialist(store):
    """24 windows to train on, others of the same text to validate on: it must overfit."""
    return finetune.Specialist("numpy", store, np.arange(24), store, np.arange(400, 440))


@pytest.fixture(scope="module")
def params(tiny_model):
    return jax.jit(transformer.init, static_argnums=0)(tiny_model, jax.random.key(0))


@pytest.fixture(scope="module")
def lora_settings(settings):
    made = copy.deepcopy(settings)
    made.finetune.learning_rate = 0.02
    made.finetune.max_steps = 20
    made.finetune.lora_rank, made.finetune.lora_alpha = 4, 8.0
    made.finetune.lora_matrices = ("qkv", "down")
    return made


def run(path, tiny_model, params, specialist, settings):
    return finetune.finetune(
        path,
        tiny_model,
        params,
        specialist,
        settings.train,
        settings.finetune,
        0,
        sharding.make_mesh(),
    )


@pytest.fixture(scope="module")
def tuned(tiny_model, params, specialist, settings, vocabulary, tmp_path_factory):
    path = tmp_path_factory.mktemp("tuned") / "run"
    entry = run(path, tiny_model, params, specialist, settings)
    runs.describe(path, tiny_model, vocabulary, "slm", "numpy", 0, [entry])
    return path, entry


def test_the_best_checkpoint_is_kept_and_stopping_is_early(tuned, specialist, tiny_model):
    path, entry = tuned
    records = metrics.read(path / "metrics.jsonl")
    valid = [r["valid_nll"] for r in records]
    best = int(np.argmin(valid))
    assert 0 < best < len(valid) - 1, valid  # it learnt first and overfitted later
    assert entry["best_step"] == records[best]["step"]
    assert entry["valid_nll"] == min(valid)
    assert entry["steps"] == records[-1]["step"] < 60
    assert len(valid) - 1 - best == 3  # patience
    mesh = sharding.make_mesh()
    model = runs.load(path, mesh)
    scored = scoring.score(
        step.make_score_step(tiny_model, mesh),
        model.params,
        specialist.valid_store,
        specialist.valid_indices,
        16,
        mesh,
    )
    assert scored.nll_per_token == pytest.approx(min(valid), rel=1e-6)
    assert not (path / "latest").exists()


def kill(monkeypatch, arguments, at):
    """Runs fine-tuning and kills it in its evaluation number `at`."""
    evaluate, calls = finetune._evaluate, []

    def failing(*given):
        calls.append(1)
        if len(calls) == at:
            raise RuntimeError("killed")
        return evaluate(*given)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "_evaluate", failing)
        with pytest.raises(RuntimeError, match="killed"):
            run(*arguments)


@pytest.mark.parametrize("checkpoint_every", [10, 7, 1])
def test_it_resumes_where_it_was_killed(
    tuned, tiny_model, params, specialist, settings, tmp_path, monkeypatch, checkpoint_every
):
    """It is evaluated every 5 steps; checkpoints need not be a multiple of that."""
    often = config.default()
    often.train.update(settings.train)
    often.finetune.update(settings.finetune)
    often.finetune.checkpoint_every = checkpoint_every
    arguments = (tmp_path / "run", tiny_model, params, specialist, often)
    kill(monkeypatch, arguments, at=4)
    assert (tmp_path / "run" / "latest" / "10").exists()
    entry = run(*arguments)
    whole = metrics.read(tuned[0] / "metrics.jsonl")
    again = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in again] == [r["step"] for r in whole]
    assert [r["valid_nll"] for r in again] == [r["valid_nll"] for r in whole]
    assert entry["best_step"] == tuned[1]["best_step"]


@pytest.mark.parametrize("adapters", [False, True])
def test_the_average_is_what_is_kept_and_goes_on_where_it_was_killed(
    tiny_model,
    params,
    specialist,
    settings,
    lora_settings,
    vocabulary,
    tmp_path,
    monkeypatch,
    adapters,
):
    """A checkpoint between two steps that are taken in; the average in NumPy."""
    averaged = copy.deepcopy(lora_settings if adapters else settings)
    averaged.finetune.update(average=0.9, checkpoint_every=7)
    arguments = (tmp_path / "run", tiny_model, params, specialist, averaged)
    see, after = averaging.Average.see, {}
    with monkeypatch.context() as patch:
        note = lambda self, step, trained: after.update({step: jax.device_get(trained)})  # noqa: E731
        patch.setattr(averaging.Average, "see", lambda *given: (note(*given), see(*given)))
        entry = run(*arguments)
    trained = finetune.parameter_map(tiny_model, params, averaged.finetune, 0)
    assert entry["best_step"] > 5 and entry["steps"] == max(after)
    mean, keep = jax.device_get(trained.start), 0.9**5
    for number in range(5, entry["best_step"] + 1, 5):
        mean = jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, mean, after[number])
    runs.describe(tmp_path / "run", tiny_model, vocabulary, "slm", "numpy", 0, [entry])
    model = runs.load(tmp_path / "run", sharding.make_mesh())
    wanted = trained.to_params(mean, trained.fixed)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), wanted, model.params
    )
    if adapters:
        known = adapters_lib.describe(trained.adapters, tmp_path / "run", tmp_path / "run")
        _, factors = adapters_lib.read(dataclasses.replace(model, record=known))
        merged = lora.merge(params, factors, tiny_model, trained.adapters)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), merged, model.params)
    whole = metrics.read(tmp_path / "run" / "metrics.jsonl")
    again = (tmp_path / "again", *arguments[1:])
    kill(monkeypatch, again, at=4)
    assert run(*again)["best_step"] == entry["best_step"]
    found = metrics.read(tmp_path / "again" / "metrics.jsonl")
    assert [r["valid_nll"] for r in found] == [r["valid_nll"] for r in whole]


def test_a_model_that_only_gets_worse_is_kept_as_it_was(
    tiny_model, params, specialist, settings, tmp_path, vocabulary
):
    harmful = config.default()
    harmful.train.tensorboard = False
    harmful.finetune.update(settings.finetune)
    harmful.finetune.learning_rate = 1.0
    entry = run(tmp_path / "run", tiny_model, params, specialist, harmful)
    assert entry["best_step"] == 0
    runs.describe(tmp_path / "run", tiny_model, vocabulary, "slm", "numpy", 0, [entry])
    kept = runs.load(tmp_path / "run", sharding.make_mesh()).params
    jax.tree.map(np.testing.assert_array_equal, kept, params)


def test_without_patience_it_never_stops_early(tiny_model, params, specialist, settings, tmp_path):
    patient = config.default()
    patient.train.update(settings.train)
    patient.finetune.update(settings.finetune)
    patient.finetune.update(learning_rate=3.0, patience=0, max_steps=40)
    entry = run(tmp_path / "run", tiny_model, params, specialist, patient)
    assert (entry["steps"], entry["best_step"]) == (40, 0)
    assert len(metrics.read(tmp_path / "run" / "metrics.jsonl")) == 9


def test_a_gradient_that_is_not_finite_ends_it(tiny_model, params, specialist, settings, tmp_path):
    diverging = config.default()
    diverging.train.tensorboard = False
    diverging.finetune.update(settings.finetune)
    diverging.finetune.learning_rate = 30.0
    with pytest.raises(divergence.DivergedError, match="step 1?[0-9] diverged .*learning rate 30"):
        run(tmp_path / "run", tiny_model, params, specialist, diverging)
    found = json.loads((tmp_path / "run" / "divergence.json").read_text())
    size = diverging.finetune.batch_size
    drawn = Sampler(len(specialist.train_indices), size, 0).indices(found["step"] - 1)
    assert found["windows"] == specialist.train_indices[drawn].tolist()


def test_a_resumed_attempt_that_takes_another_course_has_its_own_best_step(
    tuned, tiny_model, params, specialist, settings, tmp_path, monkeypatch
):
    """The killed one found a better step after its last checkpoint; the resumed one does not."""
    arguments = (tmp_path / "run", tiny_model, params, specialist, settings)
    valid = {r["step"]: r["valid_nll"] for r in metrics.read(tuned[0] / "metrics.jsonl")}
    assert valid[15] < valid[10] < min(valid[0], valid[5]), valid  # what this test is about
    kill(monkeypatch, arguments, at=5)
    left = {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert left == {10, 15}
    evaluate = finetune._evaluate
    monkeypatch.setattr(finetune, "_evaluate", lambda *given: evaluate(*given) + 100)
    entry = run(*arguments)
    assert (entry["best_step"], entry["valid_nll"]) == (10, valid[10])
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["10"]


def test_killed_between_its_last_evaluation_and_its_end_it_goes_on(
    tuned, tiny_model, params, specialist, settings, tmp_path, monkeypatch
):
    """The latest checkpoint, of step 10, needs its best step, which is not that of the end."""
    arguments = (tmp_path / "run", tiny_model, params, specialist, settings)
    assert tuned[1]["best_step"] not in (0, 5, 10), tuned[1]  # what this test is about

    def killed(self, step, params):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "read_back", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run(*arguments)
    entry = run(*arguments)
    for name in ("steps", "best_step", "valid_nll"):
        assert entry[name] == tuned[1][name], name
    (kept,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert kept.name == str(entry["best_step"])


def test_a_batch_that_does_not_divide_is_refused(
    tiny_model, params, specialist, settings, tmp_path
):
    odd = config.default()
    odd.finetune.update(settings.finetune)
    odd.finetune.batch_size = 5
    with pytest.raises(UserError, match="finetune.batch_size=5: .* 2 devices .* to 4 or 6"):
        run(tmp_path / "run", tiny_model, params, specialist, odd)


def test_the_rate_is_a_third_of_pretraining_unless_set(settings):
    assert finetune.settings(settings.train, settings.finetune).learning_rate == pytest.approx(0.01)
    changed = config.default().finetune
    changed.learning_rate = 0.5
    assert finetune.settings(settings.train, changed).learning_rate == 0.5
    assert settings.train.learning_rate == 0.03 and settings.train.schedule == "cosine"


@pytest.fixture(scope="module")
def base(tuned):
    """A model that has learnt some text: LoRA has something to build on."""
    return runs.load(tuned[0], sharding.make_mesh()).params


@pytest.fixture(scope="module")
def more(store):
    return finetune.Specialist("numpy", store, np.arange(24, 200), store, np.arange(400, 440))


@pytest.fixture(scope="module")
def adapted(tiny_model, base, more, lora_settings, vocabulary, tmp_path_factory):
    path = tmp_path_factory.mktemp("lora") / "run"
    entry = run(path, tiny_model, base, more, lora_settings)
    runs.describe(path, tiny_model, vocabulary, "slm", "numpy", 0, [entry])
    return path, entry


def test_lora_ends_in_a_dense_checkpoint_with_only_its_matrices_changed(
    adapted, tiny_model, base, more, lora_settings
):
    path, entry = adapted
    valid = [r["valid_nll"] for r in metrics.read(path / "metrics.jsonl")]
    assert min(valid) < valid[0] - 0.005 and entry["best_step"] > 0  # it learnt
    adapters = lora.Config(4, 8.0, ("qkv", "down"))
    assert entry["trained_params"] == tensors.count(lora.declare(tiny_model, adapters))
    mesh = sharding.make_mesh()
    model = runs.load(path, mesh)
    scored = scoring.score(
        step.make_score_step(tiny_model, mesh),
        model.params,
        more.valid_store,
        more.valid_indices,
        16,
        mesh,
    )
    assert scored.nll_per_token == pytest.approx(min(valid), rel=1e-6)
    for name in ("qkv", "down"):
        tuned, untuned = (getattr(named(p).layers, name) for p in (model.params, base))
        change = np.asarray(tuned - untuned)
        for layer in change.reshape(2, -1, change.shape[-1] if name == "down" else 3 * 16):
            sizes = np.linalg.svd(layer, compute_uv=False)
            assert sizes[3] > 100 * sizes[4]  # of rank 4
    others = model.params
    for path in (("layers", "attention", "qkv"), ("layers", "mlp", "down")):
        others = tensors.updated(others, path, tensors.get(base, path))
    jax.tree.map(np.testing.assert_array_equal, others, base)


def test_the_adapters_of_the_best_step_lie_beside_it(adapted, tiny_model, base):
    path, entry = adapted
    model = runs.load(path, sharding.make_mesh())
    known = adapters_lib.describe(lora.Config(4, 8.0, ("qkv", "down")), path, path)
    settings, factors = adapters_lib.read(dataclasses.replace(model, record=known))
    assert entry["best_step"] > 0 and np.any(np.asarray(factors["qkv"]["b"]))
    merged = lora.merge(base, factors, tiny_model, settings)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), merged, model.params)


def test_lora_resumes_where_it_was_killed(
    adapted, tiny_model, base, more, lora_settings, tmp_path, monkeypatch
):
    arguments = (tmp_path / "run", tiny_model, base, more, lora_settings)
    kill(monkeypatch, arguments, at=4)
    run(*arguments)
    whole = metrics.read(adapted[0] / "metrics.jsonl")
    again = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert [(r["step"], r["valid_nll"]) for r in again] == [
        (r["step"], r["valid_nll"]) for r in whole
    ]


def test_the_step_takes_the_gradient_of_the_whole_batch_through_the_map(
    tiny_model, params, specialist, settings
):
    """On two devices, 2 windows at a time, against one plain gradient through the merge."""
    adapters = lora.Config(4, 8.0)
    trained = tuning_step.low_rank(tiny_model, params, adapters, jax.random.key(1))
    tx, mesh = optimizer.make(settings.train, 10, trained.declared), sharding.make_mesh()
    batch = specialist.train_store.batch(specialist.train_indices[:8])
    train_step = tuning_step.make_train_step(
        trained, objectives.next_token(tiny_model), tx, mesh, 2
    )
    state = tuning_step.init_state(trained, tx, mesh)
    after, values = train_step(state, sharding.put_batch(mesh, batch))

    @jax.jit
    def plain_step(values):
        def loss(values):
            return transformer.loss(
                lora.merge(params, values, tiny_model, adapters),
                batch["inputs"],
                batch["targets"],
                batch["mask"],
                tiny_model,
            )

        nats, grads = jax.value_and_grad(loss)(values)
        updates, _ = tx.update(grads, tx.init(values), values)
        return nats, optax.apply_updates(values, updates)

    nats, want = plain_step(trained.start)
    assert values["loss"] == pytest.approx(float(nats), rel=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after.params, want
    )
    assert int(after.step) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("lora_rank", -1), ("lora_alpha", 0.0), ("lora_matrices", ("q",)), ("lora_matrices", ())],
)
def test_a_lora_setting_out_of_range_is_named(
    tiny_model, params, specialist, lora_settings, tmp_path, name, value
):
    wrong = copy.deepcopy(lora_settings)
    wrong.finetune[name] = value
    with pytest.raises(UserError, match=f"finetune.{name}="):
        run(tmp_path / "run", tiny_model, params, specialist, wrong)
    assert not (tmp_path / "run").exists()
