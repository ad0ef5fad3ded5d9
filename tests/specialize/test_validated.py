"""Pretraining that ends by validation: the steps are those of the plain loop, the best one stays."""

import jax
import numpy as np
import pytest

from specialm import config as config_lib
from specialm.data.sampler import Sampler
from specialm.models import transformer
from specialm.specialize import validated
from specialm.training import loop, metrics, runs, sharding

STEPS = 12


@pytest.fixture(scope="module")
def settings():
    config = config_lib.default()
    config.train.update(batch_size=8, tokens=STEPS * 8 * 16, warmup_steps=2, log_every=1)
    config.train.update(valid_every=3, patience=2, checkpoint_every=5, tensorboard=False)
    return config.train


@pytest.fixture(scope="module")
def model(vocabulary):
    return transformer.Config(vocabulary.size, 16, num_layers=1, d_model=16, num_heads=2, d_ff=32)


def pretrain(path, model, store, train, valid=None):
    sampler = Sampler(len(store), train.batch_size, 0)
    what = (path, model, train, store, sampler)
    mesh = sharding.make_mesh(train.batch_size)
    if valid is None:
        return loop.pretrain(*what, 3, mesh)
    return validated.pretrain(*what, valid, 3, mesh, "t")


def params_of(path, model):
    from specialm.training.checkpoints import Checkpoints

    mesh = sharding.make_mesh(8)
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return jax.device_get(checkpoints.restore(runs.abstract_params(model, mesh))[:2])


def test_all_steps_are_those_of_the_plain_loop(model, store, settings, tmp_path):
    valid = store, np.arange(40)
    plain = pretrain(tmp_path / "plain", model, store, settings)
    entry = pretrain(tmp_path / "valid", model, store, settings, valid)
    assert entry["phase"] == plain["phase"] == "pretrained"
    for name in ("steps", "tokens"):
        assert entry[name] == pytest.approx(plain[name])
    # Validated at step 0, 3, 6, 9 and 12; a pass costs a third of a training step's.
    one = plain["flops"] / plain["tokens"] / 3 * 40 * store.context
    assert entry["valid_flops"] == pytest.approx(5 * one)
    assert entry["flops"] == pytest.approx(plain["flops"] + 5 * one)
    assert entry["best_step"] == STEPS  # it still improves
    (step, ours), (_, theirs) = (params_of(tmp_path / n, model) for n in ("valid", "plain"))
    assert step == STEPS
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)
    records = metrics.read(tmp_path / "valid" / "metrics.jsonl")
    assert [record["step"] for record in records] == [0, 3, 6, 9, 12]
    assert entry["loss"] == records[-1]["loss"]


def test_it_ends_when_validation_gets_worse(model, store, settings, tmp_path, monkeypatch):
    from specialm.specialize import finetune

    worse = iter([3.0, 2.0, 2.5, 2.6, 9.0])
    monkeypatch.setattr(finetune, "_evaluate", lambda *given: next(worse))
    entry = pretrain(tmp_path / "run", model, store, settings, (store, np.arange(4)))
    assert (entry["steps"], entry["best_step"], entry["valid_nll"]) == (9, 3, 2.0)
    assert params_of(tmp_path / "run", model)[0] == 3


def test_it_resumes_where_it_was_killed(model, store, settings, tmp_path):
    valid = store, np.arange(40)
    whole = pretrain(tmp_path / "whole", model, store, settings, valid)
    seen = []

    class Killed(Sampler):
        def indices(self, step):
            seen.append(step)
            if step == 8 and seen.count(8) == 1:
                raise KeyboardInterrupt
            return super().indices(step)

    mesh = sharding.make_mesh(8)
    what = (tmp_path / "run", model, settings, store, Killed(len(store), 8, 0), valid, 3, mesh, "t")
    with pytest.raises(KeyboardInterrupt):
        validated.pretrain(*what)
    entry = validated.pretrain(*what)
    assert seen[seen.index(8) + 1] == 6  # the first validation after five steps
    assert entry["valid_nll"] == whole["valid_nll"] and entry["steps"] == whole["steps"]
    assert entry["flops"] == whole["flops"]  # none is counted twice
    for ours, theirs in zip(
        jax.tree.leaves(params_of(tmp_path / "run", model)),
        jax.tree.leaves(params_of(tmp_path / "whole", model)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
