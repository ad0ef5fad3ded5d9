import jax
import jax.numpy as jnp
import numpy as np
import pytest

from specialm.models import operations, splash, target


@pytest.mark.parametrize("length,heads", [(128, 2), (256, 1), (640, 1)])
def test_values_and_gradients_are_those_of_blocked_attention(length, heads):
    rng = np.random.default_rng(length)
    q, k, v, weight = (
        jnp.asarray(rng.normal(size=(2, length, heads, 128)), jnp.float32) for _ in range(4)
    )

    def both(attention):
        return jax.jit(
            jax.value_and_grad(lambda *x: jnp.sum(attention(*x) * weight), argnums=(0, 1, 2))
        )(q, k, v)

    got = both(lambda *x: splash.attention(*x, interpret=True))
    want = both(lambda *x: operations.attention(*x, "blocked"))
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "platform,length,size,kernel",
    [
        ("tpu", 1024, 128, True),
        ("tpu", 100, 128, False),
        ("tpu", 1024, 64, False),
        ("gpu", 1024, 128, False),
        ("cpu", 1024, 128, False),
    ],
)
def test_it_is_chosen_on_a_tpu_where_it_fits(platform, length, size, kernel):
    q = jax.ShapeDtypeStruct((1, length, 1, size), jnp.bfloat16)
    with target.compiling_for(platform):
        traced = str(jax.make_jaxpr(lambda x: operations.attention(x, x, x, "auto"))(q))
    assert ("pallas_call" in traced) == kernel
