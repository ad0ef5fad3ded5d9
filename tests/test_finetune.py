import jax
import numpy as np
import pytest

from specialm import config
from specialm.models import transformer
from specialm.specialize import finetune
from specialm.training import metrics, runs, scoring, sharding, step


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
    return transformer.init(tiny_model, jax.random.key(0))


def run(path, tiny_model, params, specialist, settings):
    return finetune.finetune(path, tiny_model, params, specialist, settings.train,
                             settings.finetune, 0, sharding.make_mesh())


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
    scored = scoring.score(step.make_score_step(tiny_model, mesh), model.params,
                           specialist.valid_store, specialist.valid_indices, 16, mesh)
    assert scored.nll_per_token == pytest.approx(min(valid), rel=1e-6)
    assert not (path / "latest").exists()


def test_it_resumes_where_it_was_killed(tuned, tiny_model, params, specialist, settings, tmp_path,
                                        monkeypatch):
    evaluate, calls = finetune._evaluate, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("killed")
        return evaluate(*arguments)

    monkeypatch.setattr(finetune, "_evaluate", failing)
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "run", tiny_model, params, specialist, settings)
    monkeypatch.setattr(finetune, "_evaluate", evaluate)
    entry = run(tmp_path / "run", tiny_model, params, specialist, settings)
    whole = metrics.read(tuned[0] / "metrics.jsonl")
    again = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in again] == [r["step"] for r in whole]
    assert [r["valid_nll"] for r in again] == [r["valid_nll"] for r in whole]
    assert entry["best_step"] == tuned[1]["best_step"]


def test_a_model_that_only_gets_worse_is_kept_as_it_was(tiny_model, params, specialist, settings,
                                                        tmp_path, vocabulary):
    harmful = config.default()
    harmful.train.tensorboard = False
    harmful.finetune.update(settings.finetune)
    harmful.finetune.learning_rate = 30.0
    entry = run(tmp_path / "run", tiny_model, params, specialist, harmful)
    assert entry["best_step"] == 0
    runs.describe(tmp_path / "run", tiny_model, vocabulary, "slm", "numpy", 0, [entry])
    kept = runs.load(tmp_path / "run", sharding.make_mesh()).params
    jax.tree.map(np.testing.assert_array_equal, kept, params)


def test_the_rate_is_a_third_of_pretraining_unless_set(settings):
    assert finetune.settings(settings.train, settings.finetune).learning_rate == \
        pytest.approx(0.01)
    changed = config.default().finetune
    changed.learning_rate = 0.5
    assert finetune.settings(settings.train, changed).learning_rate == 0.5
    assert settings.train.learning_rate == 0.03 and settings.train.schedule == "cosine"
