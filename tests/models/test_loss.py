import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specialm.models import loss


def make_case(count, width, classes, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(size=(count, width)).astype(np.float32)
    head = rng.normal(size=(classes, width)).astype(np.float32)
    return x, head, rng.integers(0, classes, count), rng.random(count).astype(np.float32)


def reference(x, head, targets, mask):
    """nll [N] and the gradients of sum(mask * nll) for x and head, NumPy float64, by hand."""
    x, head, mask = (np.asarray(a, np.float64) for a in (x, head, mask))
    logits = x @ head.T
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    grad_logits = np.exp(log_p)
    grad_logits[np.arange(len(x)), targets] -= 1
    grad_logits *= mask[:, None]
    return -log_p[np.arange(len(x)), targets], grad_logits @ head, grad_logits.T @ x


@given(
    count=st.integers(1, 40),
    width=st.integers(1, 9),
    classes=st.integers(1, 30),
    chunk=st.integers(1, 50),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_values_and_gradients_in_any_chunks(count, width, classes, chunk, seed):
    x, head, targets, mask = make_case(count, width, classes, seed)
    want_nll, want_x, want_head = reference(x, head, targets, mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loss, "CPU_CHUNK", chunk)
        patch.setattr(loss, "CHUNK", chunk)
        np.testing.assert_allclose(loss.token_nll(x, head, targets), want_nll, atol=1e-5)
        total, (grad_x, grad_head, grad_mask) = jax.jit(
            jax.value_and_grad(
                lambda x, head, mask: 2 * loss.sum_nll(x, head, targets, mask), (0, 1, 2)
            )
        )(x, head, mask)
    np.testing.assert_allclose(total, 2 * want_nll @ mask, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grad_x, 2 * want_x, atol=2e-5)
    np.testing.assert_allclose(grad_head, 2 * want_head, atol=5e-5)
    np.testing.assert_allclose(grad_mask, 2 * want_nll, atol=2e-5)


def test_value_without_gradient_is_the_same():
    x, head, targets, mask = make_case(1030, 8, 50, seed=0)
    want, _, _ = reference(x, head, targets, mask)
    plain = jax.jit(loss.sum_nll)(x, head, targets, mask)
    with_gradient, _ = jax.value_and_grad(loss.sum_nll)(x, head, targets, mask)
    np.testing.assert_allclose(plain, want @ mask, rtol=1e-6)
    np.testing.assert_allclose(with_gradient, want @ mask, rtol=1e-6)


def test_large_logits_stay_finite_and_exact():
    x, head, targets, mask = make_case(20, 8, 30, seed=1, scale=100)
    want_nll, want_x, want_head = reference(x, head, targets, mask)
    assert want_nll.max() > 500
    total, grads = jax.value_and_grad(loss.sum_nll, (0, 1))(x, head, targets, mask)
    np.testing.assert_allclose(total, want_nll @ mask, rtol=1e-5)
    np.testing.assert_allclose(grads[0], want_x, atol=1e-3)
    np.testing.assert_allclose(grads[1], want_head, atol=1e-2)


def test_bfloat16_hidden_states_give_float32_sums():
    x, head, targets, mask = make_case(64, 16, 50, seed=2)
    x = jnp.asarray(x, jnp.bfloat16)
    want_nll, want_x, want_head = reference(x.astype(jnp.float32), head, targets, mask)
    total, (grad_x, grad_head) = jax.value_and_grad(loss.sum_nll, (0, 1))(x, head, targets, mask)
    assert total.dtype == jnp.float32 and grad_head.dtype == jnp.float32
    assert grad_x.dtype == jnp.bfloat16
    np.testing.assert_allclose(total, want_nll @ mask, rtol=0.01)
    np.testing.assert_allclose(grad_x.astype(jnp.float32), want_x, atol=0.1)
    np.testing.assert_allclose(grad_head, want_head, atol=0.2)
