import json
import shutil

import jax
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.data.sampler import Sampler
from specialm.models import transformer
from specialm.training import divergence, loop, metrics, runs, sharding, step
from specialm.training.checkpoints import Checkpoints


def train(path, tiny_model, tiny_train, store, seed=0, mesh=None):
    sampler = Sampler(len(store), tiny_train.batch_size, seed)
    return loop.pretrain(
        path, tiny_model, tiny_train, store, sampler, seed, mesh or sharding.make_mesh()
    )


def params_of(path, tiny_model, vocabulary, entry):
    runs.describe(path, tiny_model, vocabulary, "slm", "", 0, [entry])
    return runs.load(path, sharding.make_mesh()).params


def whole_and_resumed(path, tiny_model, settings, vocabulary, store):
    """Parameters of a run of 24 steps and of one that lost its last checkpoint and went on, whose
    losses are the same."""
    entry = train(path / "whole", tiny_model, settings, store)
    shutil.copytree(path / "whole", path / "resumed")
    shutil.rmtree(path / "resumed" / "checkpoints" / "24")
    again = train(path / "resumed", tiny_model, settings, store)
    assert again["loss"] == entry["loss"] < np.log(512) - 0.5
    return [params_of(path / name, tiny_model, vocabulary, entry) for name in ("whole", "resumed")]


@pytest.fixture(scope="module")
def trained(tiny_model, store, vocabulary, tmp_path_factory):
    from specialm import config

    settings = config.default().train
    settings.tokens, settings.batch_size, settings.warmup_steps = 24 * 8 * 16, 8, 4
    settings.log_every, settings.checkpoint_every, settings.tensorboard = 4, 8, True
    path = tmp_path_factory.mktemp("trained") / "run"
    entry = train(path, tiny_model, settings, store)
    return path, entry, params_of(path, tiny_model, vocabulary, entry)


def test_the_loss_falls_and_is_recorded(trained, tiny_model):
    path, entry, _ = trained
    records = metrics.read(path / "metrics.jsonl")
    assert [r["step"] for r in records] == [4, 8, 12, 16, 20, 24]
    assert [r["tokens"] for r in records] == [r["step"] * 8 * 16 for r in records]
    assert abs(records[0]["loss"] - np.log(512)) < 0.3
    assert records[-1]["loss"] < records[0]["loss"] - 0.5
    assert entry["tokens"] == 24 * 8 * 16 and entry["steps"] == 24
    assert entry["flops"] == entry["tokens"] * transformer.flops_per_token(tiny_model, True)
    assert entry["loss"] == records[-1]["loss"]
    assert all(0 < r["mfu"] < 1 and r["tokens_per_second"] > 0 for r in records)
    assert list((path / "tensorboard").glob("events.*"))


def test_first_losses_are_those_of_the_plain_loop(trained, tiny_model, store):
    """The loop against a plain one written here: same windows, same updates."""
    from specialm import config
    from specialm.training import optimizer

    settings = config.default().train
    settings.tokens, settings.batch_size, settings.warmup_steps = 24 * 8 * 16, 8, 4
    tx = optimizer.make(settings, 24, transformer.declare(tiny_model))
    params = transformer.init(tiny_model, jax.random.key(0))
    state, losses = tx.init(params), []
    sampler = Sampler(len(store), 8, 0)
    gradient = jax.jit(jax.value_and_grad(transformer.loss), static_argnums=4)
    update = jax.jit(tx.update)
    for number in range(4):
        batch = store.batch(sampler.indices(number))
        value, grads = gradient(
            params, batch["inputs"], batch["targets"], batch["mask"], tiny_model
        )
        updates, state = update(grads, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
        losses.append(float(value))
    first = metrics.read(trained[0] / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_resume_gives_the_same_parameters(
    trained, tiny_model, tiny_train, store, vocabulary, tmp_path, monkeypatch
):
    """Stopped by an error after step 17, resumed from the checkpoint of step 16."""
    read, calls = type(store).batch, []

    def failing(self, indices):
        calls.append(1)
        if len(calls) == 18:
            raise RuntimeError("power cut")
        return read(self, indices)

    monkeypatch.setattr(type(store), "batch", failing)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "run", tiny_model, tiny_train, store)
    monkeypatch.undo()
    entry = train(tmp_path / "run", tiny_model, tiny_train, store)
    params = params_of(tmp_path / "run", tiny_model, vocabulary, entry)
    jax.tree.map(np.testing.assert_array_equal, params, trained[2])
    records = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert [r["step"] for r in records] == [4, 8, 12, 16, 20, 24]


def test_a_record_that_spans_a_resume_is_the_same(trained, tiny_model, tiny_train, store, tmp_path):
    """Losses since the last record are in the checkpoint: of steps 5 and 6 before the kill."""
    tiny_train.checkpoint_every = 6

    def stopped(self, step):
        if step == 7:
            raise RuntimeError("power cut")
        return Sampler.indices(self, step)

    broken = type("Broken", (Sampler,), {"indices": stopped})
    with pytest.raises(RuntimeError, match="power cut"):
        sampler = broken(len(store), tiny_train.batch_size, 0)
        mesh = sharding.make_mesh()
        loop.pretrain(tmp_path / "run", tiny_model, tiny_train, store, sampler, 0, mesh)
    entry = train(tmp_path / "run", tiny_model, tiny_train, store)
    whole = metrics.read(trained[0] / "metrics.jsonl")
    again = metrics.read(tmp_path / "run" / "metrics.jsonl")
    for name in ("step", "tokens", "loss", "grad_norm"):
        assert [r[name] for r in again] == [r[name] for r in whole], name
    assert entry["loss"] == trained[1]["loss"]
    assert np.all(np.diff([r["seconds"] for r in again]) > 0)


def test_the_first_loss_that_is_not_finite_ends_it(tiny_model, tiny_train, store, tmp_path):
    tiny_train.learning_rate, tiny_train.checkpoint_every = 1e9, 2
    with pytest.raises(divergence.DivergedError, match=r"step (\d+) diverged") as caught:
        train(tmp_path / "run", tiny_model, tiny_train, store)
    found = json.loads(
        (tmp_path / "run" / "divergence.json").read_text(), parse_constant=pytest.fail
    )
    number = found["step"]
    assert f"step {number} diverged" in str(caught.value)
    assert found["windows"] == Sampler(len(store), 8, 0).indices(number - 1).tolist()
    assert found["learning_rate"] == pytest.approx(1e9 * (0.25 + 0.75 * (number - 1) / 4))
    saved = Checkpoints(tmp_path / "run" / "checkpoints").steps()
    assert found["checkpoint"] == max(saved, default=0) < number
    # Replayed: the same step, with the same windows.
    with pytest.raises(divergence.DivergedError, match=f"step {number} diverged"):
        train(tmp_path / "run", tiny_model, tiny_train, store)


def test_damaged_metrics_are_named_and_lost_ones_told(
    tiny_model, tiny_train, store, tmp_path, capsys
):
    path = tmp_path / "run"
    train(path, tiny_model, tiny_train, store)
    file = path / "metrics.jsonl"
    content = file.read_text()
    file.write_text(content.replace('"loss": 6', '"loss": 5', 1) if '"loss": 6' in content else "x")
    with pytest.raises(UserError, match="metrics.jsonl: is damaged"):
        train(path, tiny_model, tiny_train, store)
    file.unlink()
    train(path, tiny_model, tiny_train, store)
    assert "metrics.jsonl: is gone" in capsys.readouterr().err


def test_a_run_killed_between_its_last_save_and_its_end_has_no_step_too_many(
    trained, tiny_model, tiny_train, store, tmp_path
):
    shutil.copytree(trained[0], tmp_path / "run")
    steps = tmp_path / "run" / "checkpoints"
    kept = sorted(path.name for path in steps.iterdir())
    shutil.copytree(steps / "16", steps / "8")  # orbax removes it after the last save
    train(tmp_path / "run", tiny_model, tiny_train, store)
    assert sorted(path.name for path in steps.iterdir()) == kept == ["16", "24"]


def test_a_finished_run_is_not_trained_again(trained, tiny_model, tiny_train, store):
    path, entry, _ = trained
    before = sorted(p.name for p in (path / "checkpoints").iterdir())
    again = train(path, tiny_model, tiny_train, store)
    assert again["tokens"] == entry["tokens"] and again["loss"] == entry["loss"]
    assert sorted(p.name for p in (path / "checkpoints").iterdir()) == before


def test_seeds_differ(trained, tiny_model, tiny_train, store, vocabulary, tmp_path):
    entry = train(tmp_path / "run", tiny_model, tiny_train, store, seed=1)
    params = params_of(tmp_path / "run", tiny_model, vocabulary, entry)
    assert not np.array_equal(params["layers"]["mlp"]["up"], trained[2]["layers"]["mlp"]["up"])


def test_steps_of_a_budget(tiny_train):
    tiny_train.tokens, tiny_train.batch_size = 1000, 4
    assert loop.num_steps(tiny_train, 16) == 16  # 1000 / 64, rounded up
    tiny_train.tokens = 1
    assert loop.num_steps(tiny_train, 16) == 1


def test_load_names_what_is_wrong(trained, tmp_path):
    with pytest.raises(UserError, match="no model.json there"):
        runs.load(tmp_path, sharding.make_mesh())
    record = json.loads((trained[0] / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**record, "vocabulary_sha256": "0" * 64}))
    (tmp_path / "vocabulary.model").write_bytes((trained[0] / "vocabulary.model").read_bytes())
    with pytest.raises(UserError, match="not the one the model was trained with"):
        runs.load(tmp_path, sharding.make_mesh())
    (tmp_path / "model.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="no checkpoint was finished"):
        runs.load(tmp_path, sharding.make_mesh())


def test_score_of_a_trained_model_is_better_than_chance(trained, tiny_model, store):
    from specialm.training import scoring

    mesh = sharding.make_mesh()
    scored = scoring.score(
        step.make_score_step(tiny_model, mesh), trained[2], store, np.arange(64), 32, mesh
    )
    assert scored.nll_per_token < np.log(512) - 0.5
