"""Many models at once give what each gives alone."""

import copy

import jax
import numpy as np
import pytest

from benchmarks import lanes, repetition_lanes, repetition_pack
from specialm import config
from specialm.data.mixed import Late
from specialm.data.sampler import Sampler
from specialm.models import tensors, transformer
from specialm.specialize import finetune
from specialm.training import loop, runs, scoring, sharding, step

SEEDS, RATES = np.array([0, 3]), np.array([0.01, 0.03])


@pytest.fixture(scope="module")
def settings():
    made = config.default()
    made.train.tensorboard = False
    made.train.tokens, made.train.batch_size, made.train.warmup_steps = 13 * 8 * 16, 8, 4
    made.train.learning_rate = 0.01
    tune = made.finetune
    tune.batch_size, tune.eval_every, tune.patience, tune.max_steps = 8, 5, 3, 60
    tune.warmup_steps = 2
    return made


@pytest.fixture(scope="module")
def text(store):
    indices_N = np.arange(len(store))
    return lanes.Text(
        jax.numpy.asarray(store.read(indices_N).astype(np.uint16)),
        jax.numpy.asarray(store.sizes_N),
        store.start,
    )


def draws(samplers, steps):
    return np.stack([repetition_lanes.stream(sampler, steps) for sampler in samplers], axis=1)


def lane(params, number):
    return jax.tree.map(lambda leaf: leaf[number], params)


def close(a, b, atol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=0), a, b)


def test_batches_are_those_of_the_store(text, store):
    indices_B = np.array([5, 0, len(store) - 1])
    wanted = store.batch(indices_B)
    for name, value in lanes.batch(text, indices_B).items():
        np.testing.assert_array_equal(value, wanted[name])
    assert not lanes.batch(text, np.array([-1]))["mask"].any()


@pytest.mark.slow
def test_lanes_are_trained_as_the_loop_trains_each(
    tmp_path, tiny_model, settings, store, text, vocabulary
):
    steps = loop.num_steps(settings.train, store.context)
    assert steps % 5  # the last call is filled up with steps that change nothing
    samplers = [Sampler(len(store), 8, int(seed)) for seed in SEEDS]
    group = lanes.Lanes(tiny_model, settings.train)
    fitted = group.fit(
        group.init(SEEDS),
        text,
        draws(samplers, steps),
        repetition_lanes.rates(settings.train, steps),
        RATES,
        5,
    )
    for number, (seed, rate) in enumerate(zip(SEEDS, RATES, strict=True)):
        train = copy.deepcopy(settings.train)
        train.learning_rate, path = float(rate), tmp_path / str(seed)
        mesh = sharding.make_mesh()
        entry = loop.pretrain(path, tiny_model, train, store, samplers[number], int(seed), mesh)
        runs.describe(path, tiny_model, vocabulary, "slm", "", int(seed), [entry])
        close(lane(fitted.params, number), runs.load(path, mesh).params, 2e-4)
        assert fitted.loss_R[number] < np.log(512) - 0.1


def test_lanes_stop_early_as_fine_tuning_does(
    tmp_path, tiny_model, settings, store, text, vocabulary
):
    train_N, valid_N, mesh = np.arange(24), np.arange(400, 440), sharding.make_mesh()
    specialist = finetune.Specialist("numpy", store, train_N, store, valid_N)
    group = lanes.Lanes(tiny_model, settings.train)
    start = group.init(SEEDS)
    rate = repetition_lanes.rates(finetune.settings(settings.train, settings.finetune), 60)
    fitted = group.fit(
        start,
        text,
        draws([Sampler(24, 8, int(seed)) for seed in SEEDS], 60),
        rate,
        RATES,
        settings.finetune.eval_every,
        lanes.Watched(
            np.stack([valid_N, valid_N]), np.full(2, int(store.sizes_N[valid_N].sum())), 3
        ),
    )
    score_step = step.make_score_step(tiny_model, mesh)
    found = group.nats(fitted.params, text, np.stack([valid_N, valid_N]))
    for number, (seed, rate) in enumerate(zip(SEEDS, RATES, strict=True)):
        tune, path = copy.deepcopy(settings.finetune), tmp_path / str(seed)
        tune.learning_rate = float(rate)
        start_of = lane(start, number)
        entry = finetune.finetune(
            path, tiny_model, start_of, specialist, settings.train, tune, int(seed), mesh
        )
        assert fitted.best_step_R[number] == entry["best_step"] > 0
        runs.describe(path, tiny_model, vocabulary, "slm", "numpy", int(seed), [entry])
        alone = runs.load(path, mesh).params
        scored = scoring.score(score_step, alone, store, valid_N, 8, mesh)
        assert found[number] == pytest.approx(scored.nll, rel=1e-4)


def test_initial_values_are_those_of_each_seed(tiny_model, settings):
    made = lanes.Lanes(tiny_model, settings.train).init(SEEDS)
    alone = tensors.init(transformer.declare(tiny_model), jax.random.key(3))
    close(lane(made, 1), alone, 1e-7)


def test_a_sampler_comes_back_from_a_pack():
    pack = repetition_pack.Pack.__new__(repetition_pack.Pack)
    pack.arrays = {}
    clusters_N = np.arange(50) % 3
    weighted = Sampler(50, 4, 7, clusters_N, np.array([0.2, 0.5, 0.3]), epoch=40)
    late = Late(Sampler(50, 4, 7), weighted, 5)
    for sampler in (weighted, late):
        again = repetition_pack.read_sampler(pack.sampler(sampler), pack.arrays)
        every_SxB = repetition_lanes.stream(again, 24)
        for number in (0, 4, 5, 23):
            np.testing.assert_array_equal(again.indices(number), sampler.indices(number))
            np.testing.assert_array_equal(every_SxB[number], sampler.indices(number))
