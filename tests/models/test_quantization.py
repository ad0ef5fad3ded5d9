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


@pytest.mark.parametrize("bits,levels", [(8, 127), (4, 8)])
@given(values=numbers)
def test_a_number_moves_by_half_a_level_of_its_block(bits, levels, values):
    """With 4 bits up to a whole level: the end opposite to the largest value has one code less,
    and a smaller scale may have been better. The scale is rounded to float16: by 2^-11 of it, or
    3e-8 where it is tiny."""
    back = dequantize(quantize(values, bits))
    assert back.shape == values.shape and back.dtype == np.float32
    flat = np.pad(values.reshape(-1), (0, -values.size % 32)).reshape(-1, 32)
    largest = np.abs(flat).max(1)
    allowed = largest / levels * (0.5 if bits == 8 else 2.1) + largest * 2**-11 + levels * 6e-8
    moved = np.abs(np.pad((back - values).reshape(-1), (0, -values.size % 32))).reshape(-1, 32)
    assert (moved.max(1) <= allowed).all()


@pytest.mark.parametrize("bits,each", [(8, 34), (4, 18)])
def test_bytes_are_codes_and_scales(bits, each):
    made = quantize(np.ones((3, 50), np.float32), bits)
    assert made.num_bytes == 5 * each  # 150 numbers in 5 blocks


@pytest.mark.parametrize("bits", quantization.BITS)
def test_what_was_quantized_is_left_as_it_is(bits):
    values = np.random.default_rng(0).normal(size=(7, 33)).astype(np.float32)
    once = dequantize(quantize(values, bits))
    if bits == 8:
        np.testing.assert_allclose(dequantize(quantize(once, bits)), once, rtol=2e-3, atol=1e-6)
    zeros = np.zeros((2, 40), np.float32)
    np.testing.assert_array_equal(dequantize(quantize(zeros, bits)), zeros)
    grid = np.arange(-8, 8, dtype=np.float32).repeat(2) * 0.25  # exact with a scale of 1/4
    np.testing.assert_array_equal(dequantize(quantize(grid, 4)), grid)


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
    with pytest.raises(UserError, match="bits=3: must be one of 8, 4"):
        quantize(np.ones(3), 3)
    with pytest.raises(UserError, match="not finite"):
        quantize(np.array([1.0, np.nan]), 8)
