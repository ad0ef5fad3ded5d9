"""Distillation between two vocabularies, against sums in NumPy's float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from specialm.models import transformer
from specialm.models.placement import WHOLE
from specialm.specialize import aligned

CUTS = st.lists(st.integers(1, 3), min_size=1, max_size=12)


def test_where_two_cuts_of_a_text_agree():
    ours = [b"ab", b"c", b"", b"def", b"g"]
    theirs = [b"a", b"bc", b"de", b"f", b"", b"g"]
    mine, yours = aligned.common_ends(ours, theirs)
    assert mine.tolist() == [1, 3, 4] and yours.tolist() == [1, 3, 5]


@given(CUTS, CUTS)
def test_ends_agree_where_the_bytes_before_do(a, b):
    text = b"x" * min(sum(a), sum(b))

    def cut(sizes):
        ends = np.minimum(np.cumsum(sizes), len(text))
        return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    ours, theirs = cut(a), cut(b)
    mine, yours = aligned.common_ends(ours, theirs)
    found = {
        (len(b"".join(ours[: i + 1])), len(b"".join(theirs[: j + 1])))
        for i, j in zip(mine, yours, strict=True)
    }
    assert all(first == second for first, second in found)
    wanted = {len(b"".join(ours[: i + 1])) for i in range(len(ours))}
    wanted &= {len(b"".join(theirs[: j + 1])) for j in range(len(theirs))}
    assert {first for first, _ in found} == wanted and len(found) == len(mine)


def test_stretches_are_sums_between_ends():
    nll = np.array([[1.0, 2, 3, 4, 5], [1, 1, 1, 1, 1]], "f")
    ends = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 0, 0]], "f")
    found = np.asarray(aligned.stretches(nll, ends))
    np.testing.assert_allclose(found, [[0, 3, 0, 0, 12], [1, 0, 0, 0, 0]])


def by_numpy(taught, nll, temperature=100.0):
    p, q = np.exp(-np.float64(taught) / temperature), np.exp(-np.float64(nll) / temperature)
    return temperature * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


@given(st.floats(0.01, 200), st.floats(0.01, 200))
def test_a_divergence_is_that_of_numpy(taught, nll):
    found = float(aligned.divergence(jnp.float32(taught), jnp.float32(nll)))
    assert found == pytest.approx(by_numpy(taught, nll), rel=2e-3, abs=2e-3)


def test_a_divergence_is_finite_and_least_where_both_agree():
    nll = jnp.array([0.0, 1e-9, 1e-3, 5.0, 1e4])
    found, grad = jax.vmap(jax.value_and_grad(aligned.divergence, argnums=1))(nll, nll)
    np.testing.assert_allclose(found, np.zeros(5), atol=1e-4)
    np.testing.assert_allclose(grad, np.zeros(5), atol=1e-2)
    assert np.isfinite(aligned.divergence(jnp.array([0.0, 9.0]), jnp.array([9.0, 0.0]))).all()


class Letters:
    """A vocabulary of pieces of the text "abcabc...", cut from its start on."""

    start, eos = 0, 1

    def __init__(self, *pieces):
        self.token_bytes = [b"", b"", *pieces]

    def encode_bytes(self, content):
        found = []
        while content:
            token = max(
                (i for i, p in enumerate(self.token_bytes) if p and content.startswith(p)),
                key=lambda i: len(self.token_bytes[i]),
            )
            found.append(token)
            content = content[len(self.token_bytes[token]) :]
        return found

    def decode_bytes(self, tokens):
        return b"".join(self.token_bytes[token] for token in tokens)


class Windows:
    """Two windows of the student's tokens, the first with the end of its document."""

    context = 6

    def __init__(self, *rows):
        self.rows = rows

    def batch(self, indices):
        rows = [self.rows[i] for i in indices]
        targets = np.array([row + [0] * (6 - len(row)) for row in rows], np.int32)
        mask = np.array([[1.0] * len(row) + [0] * (6 - len(row)) for row in rows], "f")
        return {
            "inputs": np.roll(targets, 1, 1) * (np.arange(6) > 0),
            "targets": targets,
            "mask": mask,
        }


def test_the_loss_is_that_of_numpy():
    """Of a teacher that cuts "abcab" into ab, c, ab, and a student that cuts it into a, bc, a, b."""
    theirs, ours = Letters(b"ab", b"c", b"a", b"b"), Letters(b"a", b"bc", b"b", b"c")
    sizes = dict(num_layers=1, d_model=8, num_heads=2, d_ff=16)
    teacher = transformer.Config(vocab_size=6, context=3, **sizes)
    student = transformer.Config(vocab_size=6, context=6, **sizes)
    params, taught_by = (
        jax.tree.map(lambda leaf: 4 * leaf, transformer.init(config, jax.random.key(seed)))
        for seed, config in enumerate((student, teacher))
    )
    first, second = [2, 3, 2, 4, 1], [3, 2, 3, 2, 4, 2]  # abcab. and bcabcaba
    windows = Windows(first, second)
    taught = aligned.teach(teacher, taught_by, theirs, ours, windows, np.arange(2))
    assert taught.tokens == 6  # of the second window bc ab c a ba it reads b, c and ab

    def nats(config, params, start, tokens):
        inputs = np.array([[start, *tokens[:-1]]], np.int32)
        log_p = log_softmax(np.asarray(transformer.logits(params, inputs, config), "d")[0], axis=-1)
        return -log_p[np.arange(len(tokens)), tokens]

    read = [nats(teacher, taught_by, 0, tokens) for tokens in ([2, 3, 2], [5, 3, 2])]
    wanted = np.zeros((2, 6))
    wanted[0, 1], wanted[0, 3] = read[0][:2].sum(), read[0][2]  # abc, ab
    wanted[1, 0] = read[1][:2].sum()  # bc
    ends = np.zeros((2, 6))
    ends[0, [1, 3]] = ends[1, 0] = 1
    np.testing.assert_array_equal(taught.ends_NxL, ends)
    np.testing.assert_allclose(taught.nll_NxL, wanted, rtol=1e-4, atol=1e-5)

    batch = windows.batch([0, 1]) | taught.columns(np.arange(2))
    own = [nats(student, params, 0, tokens) for tokens in (first, second)]
    total = 0.3 * sum(each.sum() for each in own)
    for nll, teach in (
        (own[0][:2].sum(), wanted[0, 1]),
        (own[0][2:4].sum(), wanted[0, 3]),
        (own[1][0], wanted[1, 0]),
    ):
        total += 0.7 * by_numpy(teach, nll)
    loss = aligned.objective(student, taught, 0.7).sum_loss
    assert float(loss(params, batch, (), WHOLE)) == pytest.approx(total, rel=1e-3)
