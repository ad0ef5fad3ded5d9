"""Objectives: what is predicted, and that batches are pure functions of (seed, step)."""

import dataclasses

import jax
import numpy as np
import pytest

from specialm.common.errors import UserError
from specialm.data.groups import GroupSampler
from specialm.data.sampler import Sampler
from specialm.models import transformer
from specialm.models.families import bank
from specialm.training import loop, metrics, objectives, sharding


@pytest.fixture
def bert(tiny_model):
    return dataclasses.replace(tiny_model, causal=False)


def batch_of(windows=400, length=16, vocabulary=500):
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, vocabulary, (windows, length), dtype=np.int32)
    sizes = rng.integers(1, length + 1, (windows, 1))
    mask = (np.arange(length) < sizes).astype(np.float32)
    return {"inputs": tokens, "targets": np.where(mask > 0, tokens, 0), "mask": mask}


def test_the_shares_of_masked_language_modelling(bert):
    batch, rows = batch_of(), np.arange(400)
    made = objectives.masked(bert).transform(batch, 0, 5, rows)
    present, chosen = batch["mask"] > 0, made["mask"] > 0
    assert not chosen[~present].any()
    np.testing.assert_array_equal(made["present"], batch["mask"])
    np.testing.assert_array_equal(made["inputs"][~chosen], batch["targets"][~chosen])
    assert chosen[present].mean() == pytest.approx(0.15, abs=0.02)
    hidden = made["inputs"][chosen] == objectives.MASK
    same = made["inputs"][chosen] == batch["targets"][chosen]
    assert hidden.mean() == pytest.approx(0.8, abs=0.05)
    assert same.mean() == pytest.approx(0.1, abs=0.04)
    assert 0 <= made["inputs"].min() and made["inputs"].max() < bert.vocab_size
    assert made["inputs"].dtype == batch["inputs"].dtype


def test_masks_depend_on_seed_step_and_row_alone(bert):
    transform = objectives.masked(bert).transform
    batch, rows = batch_of(8), np.arange(8)
    whole = transform(batch, 3, 7, rows)
    part = {name: value[4:] for name, value in batch.items()}
    again = transform(part, 3, 7, rows[4:])  # another process reads these rows alone
    for name, value in again.items():
        np.testing.assert_array_equal(value, whole[name][4:])
    for seed, number in ((4, 7), (3, 8)):
        assert (transform(batch, seed, number, rows)["mask"] != whole["mask"]).any()


def test_the_loss_is_that_of_the_chosen_tokens_and_padding_is_not_seen(bert):
    params = jax.tree.map(lambda leaf: 3 * leaf, transformer.init(bert, jax.random.key(0)))
    objective = objectives.masked(bert)
    batch = objective.transform(batch_of(6), 0, 0, np.arange(6))
    total = objective.sum_loss(params, batch, (), transformer.WHOLE)
    logits = transformer.logits(params, batch["inputs"], bert, batch["present"])
    log_p = jax.nn.log_softmax(logits)
    nll = -np.take_along_axis(np.asarray(log_p), batch["targets"][..., None], -1)[..., 0]
    np.testing.assert_allclose(total, (nll * batch["mask"]).sum(), rtol=1e-5)
    padded = np.where(batch["present"] > 0, batch["inputs"], 7)
    other = objective.sum_loss(params, {**batch, "inputs": padded}, (), transformer.WHOLE)
    np.testing.assert_allclose(other, total, rtol=1e-6)


def test_a_masked_model_and_a_bank_of_them_learn(bert, store, tiny_train, tmp_path):
    tiny_train.objective, tiny_train.learning_rate = "masked", 1e-2
    mesh = sharding.make_mesh(8)
    cluster_N = np.arange(len(store)) % 4
    samplers = {
        "dense": (bert, Sampler(len(store), 8, 0)),
        "bank": (
            bank.Config(bert, "projected", 4, 4, 4, (1,)),
            GroupSampler(len(store), 8, 0, cluster_N, np.full(4, 0.25), 2, np.eye(4)),
        ),
    }
    for name, (config, sampler) in samplers.items():
        loop.pretrain(tmp_path / name, config, tiny_train, store, sampler, 0, mesh)
        losses = [line["loss"] for line in metrics.read(tmp_path / name / "metrics.jsonl")]
        assert losses[-1] < losses[0] - 0.2, name


def test_what_does_not_fit_together_is_an_error(bert, tiny_model):
    with pytest.raises(UserError, match="model.causal=False"):
        objectives.make("next_token", bert)
    with pytest.raises(UserError, match="train.objective='bert': must be one of next_token"):
        objectives.make("bert", tiny_model)
