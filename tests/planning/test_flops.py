import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from specialm.models import splash, transformer
from specialm.planning.flops import matmul_flops


def flops(function, *args):
    return matmul_flops(jax.make_jaxpr(function)(*args).jaxpr)


A, B = np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)
PRODUCT = 2 * 3 * 4 * 5


def test_products_loops_and_choices():
    assert flops(lambda a, b: a @ b, A, B) == PRODUCT
    assert flops(lambda a: jnp.einsum("bij,bjk->bik", a, a), np.ones((7, 4, 4))) == 7 * 2 * 4**3
    square = np.ones((4, 4), np.float32)
    assert (
        flops(lambda a: jax.lax.scan(lambda x, _: (x @ a, None), a, length=6)[0], square)
        == 6 * 2 * 4**3
    )


def test_of_a_choice_the_dearest_branch():
    def choice(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ b + jnp.sin(a) @ b)

    assert flops(choice, A, B) == 2 * PRODUCT


def test_products_inside_of_others():
    assert flops(jax.jit(lambda a, b: jax.jit(lambda c: c @ b)(a)), A, B) == PRODUCT


def test_what_nothing_uses_is_not_counted():
    def unused(a, b):
        a @ b
        return a

    assert flops(unused, A, B) == 0
    # Of a rematerialised product only the second run is needed, for the gradient of sin.
    loss = jax.checkpoint(lambda a, b: jnp.sin(a @ b).sum())
    assert flops(jax.grad(loss), A, B) == 2 * PRODUCT


def test_all_devices_of_a_shard_map_are_counted():
    mesh = jax.make_mesh((2,), ("d",), (AxisType.Auto,), devices=jax.devices()[:2])
    product = jax.shard_map(
        lambda a, b: a @ b,
        mesh=mesh,
        check_vma=False,
        in_specs=(PartitionSpec("d"), PartitionSpec()),
        out_specs=PartitionSpec("d"),
    )
    assert flops(product, np.ones((6, 4), np.float32), B) == 2 * PRODUCT


def test_a_loop_without_an_end_that_is_known():
    def loop(a):
        return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, a)

    with pytest.raises(ValueError, match="while loop"):
        flops(loop, np.ones((4, 4), np.float32))


@pytest.mark.parametrize("length,blocks", [(128, 1), (1024, 2), (1536, 3)])
def test_the_cells_of_a_kernel_that_are_not_skipped(length, blocks):
    """Splash attention: of the grid's blocks those above the diagonal are left out, 3 of 4 and 6 of
    9 are computed; forward, and backward with its seven products."""
    q = jax.ShapeDtypeStruct((2, length, 3, 128), jnp.bfloat16)  # B, L, H, K
    computed = blocks * (blocks + 1) // 2
    product = 2 * (2 * 3) * (length // blocks) ** 2 * 128 * computed
    assert flops(splash.attention, q, q, q) == 2 * product  # scores, and weights times values
    grad = jax.grad(lambda q, k, v: splash.attention(q, k, v).sum(), argnums=(0, 1, 2))
    assert flops(grad, q, q, q) == pytest.approx(9 * product, rel=2e-3)


@pytest.mark.parametrize("remat,share", [("none", 0), ("dots", 0), ("full", 1)])
def test_a_step_on_the_loss_is_three_forward_passes(remat, share):
    """And one more of the layers, but for the last linear map, where all is computed again. On a
    CPU attention leaves out a quarter of the scores, and keeps its weights in "none" alone."""
    config = transformer.Config(
        vocab_size=64, context=128, num_layers=2, d_model=16, num_heads=2, d_ff=32, remat=remat
    )
    params = jax.eval_shape(lambda: transformer.init(config, jax.random.key(0)))
    tokens = jax.ShapeDtypeStruct((2, 128), jnp.int32)
    mask = jax.ShapeDtypeStruct((2, 128), jnp.float32)
    counted = flops(
        jax.grad(lambda p, i, t, m: transformer.sum_nll(p, i, t, m, config)),
        params,
        tokens,
        tokens,
        mask,
    )
    attention = 2 * 4 * 128 * 16 * 3 / 4  # a token's, forward
    again = 2 * (8 * 16**2 + 2 * 16 * 32) * share + attention * (remat != "none")
    want = transformer.flops_per_token(config, True) - attention + again
    assert counted == 256 * want
