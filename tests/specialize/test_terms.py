import jax
import jax.numpy as jnp
import numpy as np
import pytest

from specialm import config as config_lib
from specialm.common.errors import UserError
from specialm.models import inner, transformer
from specialm.models.parts import attention
from specialm.models.placement import WHOLE
from specialm.specialize import distill, terms
from specialm.specialize.terms import Seen, Wanted
from specialm.training import sharding, step

STUDENT = transformer.Config(
    vocab_size=30, context=8, num_layers=2, d_model=16, num_heads=4, d_ff=16, num_kv_heads=2
)
TEACHER = transformer.Config(
    vocab_size=30, context=8, num_layers=3, d_model=24, num_heads=2, d_ff=16, positions="rope"
)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def relation(one, other, heads):
    """[heads][L, L] of one window's joined vectors [L, N], in float64."""
    size, length = one.shape[1] // heads, len(one)
    found = np.zeros((heads, length, length))
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(length):
            scores = one[i, part] @ other[: i + 1, part].T / np.sqrt(size)
            found[head, i, : i + 1] = softmax(scores)
    return found


def case(seed=0, kv=2):
    """Vectors of a student with 4 heads of 6, 2 of keys and values, and of a teacher with 3 of 4."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    student = {"q": draw(2, 5, 4, 6), "k": draw(2, 5, kv, 6), "v": draw(2, 5, kv, 6)}
    teacher = {name: draw(2, 5, 3, 4) for name in "qkv"}
    return Seen(draw(10, 7), student), Seen(draw(10, 7), teacher)


@pytest.mark.parametrize("name,parts", [("attention", "qk"), ("query", "qq"), ("value", "vv")])
@pytest.mark.parametrize("heads", [1, 4, 12])
def test_relations_are_the_formula(name, parts, heads):
    student, teacher = case()

    def relations(seen, window):
        joined = []
        for part in parts:
            x = seen.vectors[part][window].astype(np.float64)
            x = np.repeat(x, seen.vectors["q"].shape[2] // x.shape[1], axis=1)
            joined.append(x.reshape(len(x), -1))
        return relation(*joined, heads)

    wanted = []
    for window in range(2):
        q, p = relations(student, window), relations(teacher, window)
        ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
        wanted.append((p * np.log(ratio)).sum(-1).mean(0))
    found = terms.TERMS[name].loss(student, teacher, heads)
    np.testing.assert_allclose(found, np.concatenate(wanted), rtol=2e-4, atol=1e-6)


def test_the_difference_of_states():
    student, teacher = case()
    wanted = ((student.final_TxD.astype(np.float64) - teacher.final_TxD) ** 2).mean(1)
    np.testing.assert_allclose(terms.TERMS["hidden"].loss(student, teacher, 1), wanted, rtol=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    student, _ = case()
    for name, term in terms.TERMS.items():
        grads = jax.grad(lambda seen, term=term: term.loss(seen, student, 4).sum())(student)
        assert np.abs(term.loss(student, student, 4)).max() < 1e-6, name
        assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads)) < 1e-5, name


@pytest.mark.parametrize("config", [STUDENT, TEACHER], ids=["learned", "rope"])
def test_what_is_seen_is_what_the_model_computes(config, monkeypatch):
    """The vectors of every layer, noted while the plain forward pass computes them."""
    params = transformer.init(config, jax.random.key(0))
    inputs_BxL = np.random.default_rng(0).integers(0, 30, (2, 8))
    noted, project = [], attention.project
    with jax.disable_jit():

        def noting(*given):
            noted.append(project(*given))
            return noted[-1]

        monkeypatch.setattr(attention, "project", noting)
        final = transformer.hidden(params, inputs_BxL, config)[transformer.LAST]
        monkeypatch.undo()
        assert len(noted) == config.num_layers
        for number in (0, config.num_layers - 1):
            found, _, vectors = inner.seen(params, inputs_BxL, config, WHOLE, number)
            np.testing.assert_allclose(found, final, atol=1e-5)
            for one, other in zip(vectors.values(), noted[number], strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


def tune(**changes):
    made = config_lib.default().finetune
    for name, value in changes.items():
        made[name] = value
    return made


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"distill_terms": ("values",)}, "'values' must be NAME"),
        ({"distill_terms": ("value=0",)}, "'value=0' must be NAME"),
        ({"distill_terms": ("value", "value=2")}, "each NAME once"),
        ({"distill_terms": ("hidden",)}, "16 numbers, the teacher's 24"),
        ({"distill_terms": ("value",), "distill_heads": 5}, "distill_heads=5"),
        ({"distill_terms": ("value",), "distill_heads": 16}, "of the teacher have 24"),
        ({"distill_terms": ("value",), "distill_layer": 4}, "the teacher has 3 layers"),
        ({"distill_terms": ("value",), "distill_top_k": 3}, "set finetune.distill_top_k=3 to 0"),
    ],
)
def test_what_cannot_be_compared_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        distill.wanted_terms(STUDENT, TEACHER, tune(**changes))


def test_settings_say_what_is_wanted():
    made = tune(distill_terms=("value=2", "attention"), distill_layer=2)
    wanted = distill.wanted_terms(STUDENT, TEACHER, made)
    assert wanted == Wanted({"value": 2.0, "attention": 1.0}, 1, 4)
    assert distill.wanted_terms(STUDENT, TEACHER, tune()) is None


@pytest.mark.slow
def test_terms_are_added_to_the_mixture_on_one_device_and_two():
    params = transformer.init(STUDENT, jax.random.key(0))
    theirs = transformer.init(TEACHER, jax.random.key(1))
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(0, 30, (2, 4, 8))
    mask = (np.arange(8) < 6).astype(np.float32) * np.ones((4, 1), np.float32)
    batch = {"inputs": inputs, "targets": targets, "mask": mask}

    def sums(wanted, sizes):
        mesh = jax.make_mesh(
            sizes,
            sharding.AXES,
            axis_types=(jax.sharding.AxisType.Auto,) * 4,
            devices=jax.devices()[: int(np.prod(sizes))],
        )
        objective = distill.from_teacher(STUDENT, TEACHER, theirs, 0.5, 2.0, wanted)
        made = step.make_sums(STUDENT, mesh, objective.sum_loss, 2, objective.fixed_axes)
        return jax.jit(made)(params, sharding.put_batch(mesh, batch), theirs)

    wanted = Wanted({"value": 2.0, "attention": 0.5}, 1, 2)
    plain, more = sums(None, (1, 1, 1, 1)), sums(wanted, (1, 1, 1, 1))
    seen = [
        Seen(None, inner.seen(of, inputs, config, WHOLE, layer)[2])
        for of, config, layer in ((params, STUDENT, 1), (theirs, TEACHER, 1))
    ]
    added = sum(
        weight * jnp.sum(terms.TERMS[name].loss(*seen, 2) * mask.reshape(-1))
        for name, weight in wanted.weights.items()
    )
    np.testing.assert_allclose(more[0], plain[0] + added, rtol=1e-5)
    assert float(added) > 1e-3
    split = sums(wanted, (1, 1, 2, 1))
    np.testing.assert_allclose(split[0], more[0], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), split[2], more[2])
