import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from specialm.common.errors import UserError
from specialm.models import quantization
from specialm.models.quantization import dequantize, quantize

numbers = arrays.arrays(
    np.float32,
    arrays.array_shapes(max_dims=3, max_side=40),
    elements=st.floats(-1000, 1000, width=32, allow_subnormal=False),
)


@pytest.mark.parametrize("bits,levels", [(8, 127), (4, 8), (3, 4), (2, 2)])
@given(values=numbers)
def test_a_number_moves_by_half_a_level_of_its_block(bits, levels, values):
    """With fewer than 8 bits up to a whole level: the end opposite to the largest value has one code less,
    and a smaller scale may have been better. The scale is rounded to float16: by 2^-11 of it, or
    3e-8 where it is tiny."""
    back = dequantize(quantize(values, bits))
    assert back.shape == values.shape and back.dtype == np.float32
    flat = np.pad(values.reshape(-1), (0, -values.size % 32)).reshape(-1, 32)
    largest = np.abs(flat).max(1)
    allowed = largest / levels * (0.5 if bits == 8 else 2.1) + largest * 2**-11 + levels * 6e-8
    moved = np.abs(np.pad((back - values).reshape(-1), (0, -values.size % 32))).reshape(-1, 32)
    assert (moved.max(1) <= allowed).all()


@pytest.mark.parametrize("bits,each", [(8, 34), (4, 18), (3, 14), (2, 10)])
def test_bytes_are_codes_and_scales(bits, each):
    made = quantize(np.ones((3, 50), np.float32), bits)
    assert made.num_bytes == 5 * each  # 150 numbers in 5 blocks


@pytest.mark.parametrize("bits", quantization.BITS)
def test_what_was_quantized_is_left_as_it_is(bits):
    values = np.random.default_rng(0).normal(size=(7, 33)).astype(np.float32)
    once = dequantize(quantize(values, bits))
    np.testing.assert_array_equal(dequantize(quantize(once, bits)), once)
    zeros = np.zeros((2, 40), np.float32)
    np.testing.assert_array_equal(dequantize(quantize(zeros, bits)), zeros)
    half = 2 ** (bits - 1)
    grid = np.resize(np.arange(-half, half, dtype=np.float32), 512) * 0.25  # a scale of 1/4
    if bits < 8:
        np.testing.assert_array_equal(dequantize(quantize(grid, bits)), grid)


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_codes_lie_one_after_the_other_from_the_lowest_bit(bits):
    half = 2 ** (bits - 1)
    codes = np.resize([-half, half - 1, 0, -1, 1 - half], 64)
    made = quantize(codes.astype(np.float32), bits)
    for block, stored in zip(codes.reshape(2, 32), made.codes, strict=True):
        wanted = sum(int(code + half) << bits * place for place, code in enumerate(block))
        assert int.from_bytes(stored.tobytes(), "little") == wanted
    assert made.scales_s.tolist() == [1, 1]


@pytest.mark.parametrize("bits", quantization.BITS)
def test_jax_rounds_to_the_same_bits(bits):
    """Tiny and large scales, ties and zeros among them: what is trained is what is stored."""
    rng = np.random.default_rng(bits)
    scales = np.float32(10.0 ** rng.uniform(-8, 3, (2000, 1)))
    blocks_sx32 = rng.standard_t(3, size=(2000, 32)).astype(np.float32) * scales
    blocks_sx32[:50] = rng.integers(-16, 17, (50, 32)) / 2
    blocks_sx32[50:60] = 0
    ours = quantization.nearest(blocks_sx32, bits, np)
    theirs = jax.jit(lambda blocks: quantization.nearest(blocks, bits, jnp))(blocks_sx32)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_array_equal(one, other)


def test_the_scale_with_the_least_error_is_taken():
    """Against all scales, in float64."""
    blocks_sx32 = np.random.default_rng(3).normal(size=(200, 32)).astype(np.float32)
    for bits in (4, 3, 2):
        half = 2 ** (bits - 1)
        codes, scales = quantization.nearest(blocks_sx32, bits, np)
        found = np.square(codes.astype(float) * scales - blocks_sx32).sum(1)
        at = np.abs(blocks_sx32).argmax(1)
        peak = blocks_sx32[np.arange(200), at].astype(float) / -half
        errors = []
        for factor in quantization.FACTORS:
            scale = (peak * factor)[:, None]
            near = np.clip(np.round(blocks_sx32 / scale), -half, half - 1)
            errors.append(np.square(near * scale - blocks_sx32).sum(1))
        np.testing.assert_allclose(found, np.min(errors, axis=0), rtol=6e-3)


def test_it_is_at_least_as_near_as_gguf():
    gguf = pytest.importorskip("gguf")
    values = np.random.default_rng(1).standard_t(4, size=(64, 96)).astype(np.float32)
    kinds = gguf.GGMLQuantizationType
    for bits, kind in ((8, kinds.Q8_0), (4, kinds.Q4_0)):
        theirs = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
        ours = dequantize(quantize(values, bits))
        errors = [np.square(each - values).mean() for each in (ours, theirs)]
        assert errors[0] <= errors[1] * 1.001
        if bits == 8:
            np.testing.assert_allclose(ours, theirs, atol=np.abs(values).max() / 127 * 1.1)
        else:
            assert errors[0] < 0.95 * errors[1]


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(UserError, match="bits=5: must be one of 8, 4, 3, 2"):
        quantize(np.ones(3), 5)
    with pytest.raises(UserError, match="not finite"):
        quantize(np.array([1.0, np.nan]), 8)
