import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from specialm import config
from specialm.common.errors import UserError
from specialm.models import loss as loss_lib
from specialm.models import transformer
from specialm.specialize import distill, finetune, teacher
from specialm.training import metrics, runs, sharding

INIT = jax.jit(transformer.init, static_argnums=0)
LOGITS = jax.jit(transformer.logits, static_argnums=2)


def make_case(count, classes, seed, width=6, teacher_width=4):
    """x, head, targets, mask, teacher's x and head."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return (
        normal(count, width),
        normal(classes, width),
        rng.integers(0, classes, count),
        rng.random(count).astype(np.float32),
        normal(count, teacher_width),
        normal(classes, teacher_width),
    )


def plain(x, head, targets, mask, teacher_x, teacher_head, weight, temperature):
    """The formula as it is written, all logits at once."""
    logits, theirs = x @ head.T, teacher_x @ teacher_head.T
    nll = -jax.nn.log_softmax(logits)[jnp.arange(len(x)), targets]
    log_q = jax.nn.log_softmax(logits / temperature)
    log_p = jax.nn.log_softmax(theirs / temperature)
    divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=1)
    return jnp.sum(mask * ((1 - weight) * nll + weight * temperature**2 * divergence))


def plain_top_k(x, head, targets, mask, ids, p, weight, temperature):
    """The formula over the kept pieces and one class for all others, all logits at once."""
    logits = x @ head.T
    nll = -jax.nn.log_softmax(logits)[jnp.arange(len(x)), targets]
    q = jax.nn.softmax(logits / temperature)[jnp.arange(len(x))[:, None], ids]
    p = jnp.concatenate([p, 1 - p.sum(1, keepdims=True)], axis=1)
    q = jnp.concatenate([q, 1 - q.sum(1, keepdims=True)], axis=1)
    divergence = jnp.sum(p * (jnp.log(p) - jnp.log(q)), axis=1)
    return jnp.sum(mask * ((1 - weight) * nll + weight * temperature**2 * divergence))


def top_k(case, k, temperature):
    """ids and probabilities of the case's teacher, NumPy float64."""
    logits = case[4].astype(np.float64) @ case[5].T.astype(np.float64) / temperature
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    ids = np.argsort(-p, axis=1)[:, :k]
    return ids, np.take_along_axis(p, ids, axis=1)


def assert_same(function, reference, case, weight, temperature, atol=3e-5):
    """Value and gradients for x, head and mask are those of the reference, in float64."""

    def by(f):
        return jax.value_and_grad(
            lambda x, head, mask: 2 * f(x, head, case[2], mask, *case[4:], weight, temperature),
            (0, 1, 2),
        )

    made, grads = jax.jit(by(function))(case[0], case[1], case[3])
    with jax.enable_x64(True):
        wide = [np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else a for a in case]
        case = wide
        want, wants = jax.jit(by(reference))(wide[0], wide[1], wide[3])
    np.testing.assert_allclose(made, want, rtol=1e-5, atol=atol)
    for grad, expected in zip(grads, wants, strict=True):
        np.testing.assert_allclose(grad, expected, rtol=2e-5, atol=atol)


weights = st.sampled_from([0.0, 0.3, 1.0])
temperatures = st.sampled_from([0.5, 1.0, 3.0])


@given(
    count=st.integers(1, 30),
    classes=st.integers(2, 25),
    chunk=st.integers(1, 40),
    weight=weights,
    temperature=temperatures,
    seed=st.integers(0, 99),
)
@hypothesis_settings(max_examples=4)
def test_values_and_gradients_are_the_plain_formulas(
    count, classes, chunk, weight, temperature, seed
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_lib, "CPU_CHUNK", chunk)
        assert_same(
            distill.sum_mixture, plain, make_case(count, classes, seed), weight, temperature
        )


@given(
    count=st.integers(1, 30),
    classes=st.integers(3, 25),
    chunk=st.integers(1, 40),
    weight=weights,
    temperature=temperatures,
    seed=st.integers(0, 99),
    data=st.data(),
)
@hypothesis_settings(max_examples=4)
def test_top_k_is_the_formula_with_one_class_for_the_rest(
    count, classes, chunk, weight, temperature, seed, data
):
    case = make_case(count, classes, seed)
    k = data.draw(st.integers(1, classes - 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss_lib, "CPU_CHUNK", chunk)
        assert_same(
            distill.sum_mixture_top_k,
            plain_top_k,
            (*case[:4], *top_k(case, k, temperature)),
            weight,
            temperature,
        )


def test_with_all_but_one_piece_stored_it_is_the_whole_divergence_and_else_less():
    case = make_case(20, 12, seed=3)
    whole = jax.jit(plain)(*case, 1.0, 2.0)
    some, most = (
        jax.jit(distill.sum_mixture_top_k, static_argnums=(6, 7))(
            *case[:4], *top_k(case, k, 2.0), 1.0, 2.0
        )
        for k in (4, 11)
    )
    assert some < 0.95 * most
    assert most == pytest.approx(float(whole), rel=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    x, head, targets, mask, _, _ = make_case(20, 12, seed=4)
    loss, grads = jax.jit(jax.value_and_grad(distill.sum_mixture, (0, 1)), static_argnums=(6, 7))(
        x, head, targets, mask, x, head, 1.0, 2.0
    )
    assert abs(loss) < 1e-5
    for grad in grads:
        assert np.abs(grad).max() < 1e-5


def test_rounded_probabilities_and_improbable_pieces_stay_finite():
    x, head, targets, mask, _, _ = make_case(4, 12, seed=5)
    ids = np.tile(np.arange(3), (4, 1))
    p = np.tile(np.float32([0.7, 0.3000001, 0.0]), (4, 1))  # above 1, and a piece of none
    loss, grads = jax.jit(
        jax.value_and_grad(distill.sum_mixture_top_k, (0, 1)), static_argnums=(6, 7)
    )(100 * x, head, targets, mask, ids, p, 0.5, 1.0)
    assert np.isfinite(loss) and all(np.isfinite(grad).all() for grad in grads)


def test_the_logits_are_never_whole():
    count, classes = 8192, 2048
    case = [
        jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype) for a in make_case(count, classes, 0)
    ]
    compiled = (
        jax.jit(jax.grad(lambda *a: distill.sum_mixture(*a, 0.5, 2.0), (0, 1)))
        .lower(*case)
        .compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < count * classes * 4


# Distilling on real text.


@pytest.fixture(scope="module")
def settings():
    made = config.default()
    made.train.tensorboard = False
    made.train.learning_rate = 0.03
    tune = made.finetune
    tune.batch_size, tune.eval_every, tune.patience, tune.max_steps = 8, 5, 3, 20
    tune.checkpoint_every, tune.warmup_steps = 10, 2
    tune.distill_weight, tune.distill_temperature, tune.distill_top_k = 1.0, 2.0, 0
    return made


@pytest.fixture(scope="module")
def specialist(store):
    return finetune.Specialist("numpy", store, np.arange(30), store, np.arange(400, 440))


@pytest.fixture(scope="module")
def models(tiny_model, specialist, settings, vocabulary, tmp_path_factory):
    """The student's config and parameters, and those of a wider teacher that has seen the text."""
    student = tiny_model, INIT(tiny_model, jax.random.key(0))
    wide = transformer.Config(**{**vars(tiny_model), "num_layers": 1, "d_model": 24, "d_ff": 48})
    path = tmp_path_factory.mktemp("teacher") / "run"
    mesh = sharding.make_mesh()
    entry = finetune.finetune(
        path,
        wide,
        INIT(wide, jax.random.key(1)),
        specialist,
        settings.train,
        settings.finetune,
        0,
        mesh,
    )
    runs.describe(path, wide, vocabulary, "llm", "numpy", 0, [entry])
    return *student, wide, runs.load(path, mesh).params


def run(path, models, specialist, settings):
    return distill.distill(
        path, *models, specialist, settings.train, settings.finetune, 0, sharding.make_mesh()
    )


@pytest.fixture(scope="module")
def distilled(models, specialist, settings, vocabulary, tmp_path_factory):
    path = tmp_path_factory.mktemp("distilled") / "run"
    entry = run(path, models, specialist, settings)
    runs.describe(path, models[0], vocabulary, "slm_d", "numpy", 0, [entry])
    return path, entry


def test_the_student_comes_to_agree_with_its_teacher(distilled, models, specialist):
    path, entry = distilled
    student, before, wide, teacher_params = models
    after = runs.load(path, sharding.make_mesh()).params
    batch = specialist.train_store.batch(specialist.train_indices)
    theirs = jax.nn.log_softmax(LOGITS(teacher_params, batch["inputs"], wide))

    def divergence(params):
        ours = jax.nn.log_softmax(LOGITS(params, batch["inputs"], student))
        return float(jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1).mean())

    assert divergence(after) < 0.7 * divergence(before)  # from the teacher alone: weight 1
    valid = [r["valid_nll"] for r in metrics.read(path / "metrics.jsonl")]
    assert entry["valid_nll"] == min(valid) < valid[0]


def test_the_ledger_names_the_teachers_forward_passes(distilled, models, specialist):
    entry = distilled[1]
    assert entry["phase"] == "distilled"
    assert entry["tokens"] == entry["steps"] * 8 * 16
    assert entry["teacher_flops"] == entry["tokens"] * transformer.flops_per_token(models[2], False)
    validated = len(metrics.read(distilled[0] / "metrics.jsonl"))
    one = len(specialist.valid_indices) * 16 * transformer.flops_per_token(models[0], False)
    assert entry["valid_flops"] == validated * one > 0
    own = entry["tokens"] * transformer.flops_per_token(models[0], True)
    assert entry["flops"] == own + entry["valid_flops"] + entry["teacher_flops"]


def test_it_resumes_where_it_was_killed(
    distilled, models, specialist, settings, tmp_path, monkeypatch
):
    evaluate, calls = finetune._evaluate, []

    def failing(*given):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("killed")
        return evaluate(*given)

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "_evaluate", failing)
        with pytest.raises(RuntimeError, match="killed"):
            run(tmp_path / "run", models, specialist, settings)
    run(tmp_path / "run", models, specialist, settings)
    whole, again = (
        metrics.read(path / "metrics.jsonl") for path in (distilled[0], tmp_path / "run")
    )
    assert [(r["step"], r["valid_nll"]) for r in again] == [
        (r["step"], r["valid_nll"]) for r in whole
    ]


def test_stored_probabilities_are_the_teachers(models, specialist, tmp_path):
    wide, params = models[2:]
    indices = np.array([3, 400, 7, 9, 30])  # fewer than a batch; the order is kept
    mesh = sharding.make_mesh()
    stored = teacher.store(
        tmp_path / "t", wide, params, specialist.train_store, indices, 4, 2.0, mesh
    )
    batch = specialist.train_store.batch(indices)
    logits = np.asarray(LOGITS(params, batch["inputs"], wide), np.float64) / 2
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    columns = stored.columns(np.arange(5))
    np.testing.assert_allclose(columns["teacher_p"], -np.sort(-p, axis=-1)[..., :4], rtol=1e-4)
    np.testing.assert_allclose(
        np.take_along_axis(p, columns["teacher_ids"], axis=-1), columns["teacher_p"], rtol=1e-4
    )
    assert stored.tokens == 5 * 16
    again = teacher.store(tmp_path / "t", wide, None, None, None, 4, 2.0, mesh)  # found, not made
    np.testing.assert_array_equal(again.ids_NxLxv, stored.ids_NxLxv)


def test_a_stored_teacher_teaches_the_same(distilled, models, specialist, settings, tmp_path):
    """All pieces but one are stored, so nothing is lost; its cost is one pass over the windows."""
    changed = copy.deepcopy(settings)
    changed.finetune.distill_top_k = models[0].vocab_size - 1
    entry = run(tmp_path / "run", models, specialist, changed)
    whole, again = (
        metrics.read(path / "metrics.jsonl") for path in (distilled[0], tmp_path / "run")
    )
    np.testing.assert_allclose(
        [r["valid_nll"] for r in again], [r["valid_nll"] for r in whole], rtol=1e-3
    )
    assert entry["teacher_flops"] == 30 * 16 * transformer.flops_per_token(models[2], False)


def test_lora_is_what_is_trained_if_it_is_set(models, specialist, settings, tmp_path):
    changed = copy.deepcopy(settings)
    tune = changed.finetune
    tune.lora_rank, tune.lora_alpha, tune.lora_matrices, tune.max_steps = 4, 8.0, ("up",), 0
    entry = run(tmp_path / "run", models, specialist, changed)
    assert entry["trained_params"] == 2 * 4 * (16 + 32)


def test_another_vocabulary_is_refused():
    student, other = {"vocabulary_sha256": "a" * 64}, {"vocabulary_sha256": "b" * 64}
    distill.check_vocabulary(student, dict(student), "runs/teacher")
    with pytest.raises(UserError, match="runs/teacher .*vocabulary bbbbbbbbbbbb"):
        distill.check_vocabulary(student, other, "runs/teacher")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("distill_weight", 1.5),
        ("distill_weight", -0.1),
        ("distill_temperature", 0.0),
        ("distill_top_k", 512),
        ("distill_top_k", -1),
    ],
)
def test_a_setting_out_of_range_is_named(models, specialist, settings, tmp_path, name, value):
    wrong = copy.deepcopy(settings)
    wrong.finetune[name] = value
    with pytest.raises(UserError, match=f"finetune.{name}={value}"):
        run(tmp_path / "run", models, specialist, wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("vocab_size", 500), ("context", 8)])
def test_a_teacher_that_cannot_read_the_windows_is_refused(
    models, specialist, settings, tmp_path, name, value
):
    wrong = transformer.Config(**{**vars(models[2]), name: value})
    with pytest.raises(UserError, match=f"teacher.* {value} "):
        run(tmp_path / "run", (*models[:2], wrong, models[3]), specialist, settings)
