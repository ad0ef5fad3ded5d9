"""Weights in 8, 4, 3 or 2 bits: blocks of 32 numbers with one scale each.

A number is code * scale, the codes whole. With 8 bits the scale makes the block's largest absolute
value 127, as in GGUF's Q8_0. With fewer it makes it the least code, -8 with 4 bits as in Q4_0, or
is a multiple of that with which the squared error of the block is less (FACTORS). Scales are
float16, and codes are those that are nearest with the rounded scale. Blocks run along a tensor as
it lies in memory, the last filled up with zeros.

`nearest` is written for NumPy and JAX: what is trained for few bits (`training/quantized.py`) is
rounded by the code that stores it, to the same bits on a CPU. So nothing in it may depend on the
order of a sum or on whether a product and a sum are rounded once or twice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from specialm.common.errors import UserError

if TYPE_CHECKING:  # JAX, which settings are checked without
    from specialm.models.tensors import Tensor

BLOCK = 32
BITS = (8, 4, 3, 2)
FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 1.05)  # of the scale, tried with less than 8 bits
UNITS = 512  # a code's distance in which errors are compared, as whole numbers
LARGEST = float(np.finfo(np.float16).max)
LEAST_NORMAL, LEAST = 2.0**-14, 2.0**-24  # of float16


@dataclass(frozen=True)
class Quantized:
    """One tensor.

    Attributes:
      codes: uint8, of each block its codes one after the other: int8 with 8 bits; with fewer they
        are half of all codes more than they stand for, the first in the lowest bits.
      scales_s: float16, of each block.
    """

    codes: np.ndarray
    scales_s: np.ndarray
    shape: tuple[int, ...]
    bits: int

    @property
    def num_bytes(self) -> int:
        """That it is stored in."""
        return self.codes.nbytes + self.scales_s.nbytes


def check_bits(name: str, bits: int, others: str = "") -> None:
    """Raises UserError for a setting or option that is not of BITS.

    Args:
      others: what it may be as well, for the message.
    """
    if bits not in BITS:
        raise UserError(f"{name}={bits}: must be one of {others}{', '.join(map(str, BITS))}.")


def quantize(values: np.ndarray, bits: int) -> Quantized:
    """A tensor in `bits` of BITS.

    Raises:
      UserError: other bits; numbers that are not finite, or too large for a scale.
    """
    check_bits("bits", bits)
    blocks_sx32 = in_blocks(np.asarray(values, np.float32), np)
    if not np.isfinite(blocks_sx32).all() or np.abs(blocks_sx32).max(initial=0) > LARGEST:
        raise UserError("a weight is not finite, or above 65,504: this cannot be quantized.")
    codes_sx32, scales_sx1 = nearest(blocks_sx32, bits, np)
    codes = _packed(codes_sx32.astype(np.int8), bits)
    return Quantized(codes, scales_sx1[:, 0].astype(np.float16), np.shape(values), bits)


def dequantize(tensor: Quantized) -> np.ndarray:
    """float32, of the tensor's shape."""
    codes_sx32 = _unpacked(tensor.codes, tensor.bits).astype(np.float32)
    return of_blocks(codes_sx32 * tensor.scales_s.astype(np.float32)[:, None], tensor.shape)


def in_blocks(values: Any, xp: Any) -> Any:
    """[s, 32]: the numbers of a tensor one after the other, zeros at the end.

    Args:
      xp: numpy, or jax.numpy.
    """
    flat = values.reshape(-1)
    return xp.pad(flat, (0, -flat.size % BLOCK)).reshape(-1, BLOCK)


def of_blocks(blocks_sx32: Any, shape: tuple[int, ...]) -> Any:
    """The tensor of this shape that `in_blocks` was given."""
    return blocks_sx32.reshape(-1)[: math.prod(shape)].reshape(shape)


def inputs_last(values: Any, tensor: "Tensor", xp: Any) -> Any:
    """A linear map with its inputs as the last axes, as GGUF and PyTorch hold it: blocks run along
    them. Other tensors as they are.
    """
    first = tuple(range(tensor.leading, tensor.leading + tensor.inputs))
    return xp.moveaxis(values, first, _last(tensor))


def inputs_first(values: Any, tensor: "Tensor", xp: Any) -> Any:
    """The inverse of `inputs_last`."""
    first = tuple(range(tensor.leading, tensor.leading + tensor.inputs))
    return xp.moveaxis(values, _last(tensor), first)


def _last(tensor: "Tensor") -> tuple[int, ...]:
    return tuple(range(len(tensor.shape) - tensor.inputs, len(tensor.shape)))


def nearest(blocks_sx32: Any, bits: int, xp: Any) -> tuple[Any, Any]:
    """(codes [s, 32], scales [s, 1]) of finite float32 numbers, both whole or rounded, as float32.

    Args:
      bits: of BITS.
      xp: numpy, or jax.numpy.
    """
    if bits == 8:
        # Not divided by 127, which XLA would do in this way.
        scales_sx1 = _half(xp.abs(blocks_sx32).max(1)[:, None] * np.float32(1 / 127), xp)
        return _codes(blocks_sx32, scales_sx1, -127, 127, xp), scales_sx1
    half = 2 ** (bits - 1)
    at_sx1 = xp.abs(blocks_sx32).argmax(1)[:, None]
    peak_sx1 = xp.take_along_axis(blocks_sx32, at_sx1, axis=1) / -half

    def better(best: tuple, factor: Any) -> tuple:
        scales_sx1 = _half(peak_sx1 * factor, xp)
        codes_sx32 = _codes(blocks_sx32, scales_sx1, -half, half - 1, xp)
        # The product is exact, so that this rounds once however it is computed.
        apart_sx32 = codes_sx32 * scales_sx1 - blocks_sx32
        error_sx32 = xp.rint(_ratio(apart_sx32, peak_sx1, xp) * UNITS).astype(np.int32)
        error_sx1 = (error_sx32 * error_sx32).sum(1, dtype=np.int32)[:, None]
        tried, less_sx1 = (error_sx1, codes_sx32, scales_sx1), error_sx1 < best[0]
        return tuple(xp.where(less_sx1, *pair) for pair in zip(tried, best, strict=True))

    most_sx1 = xp.full(peak_sx1.shape, np.iinfo(np.int32).max, np.int32)
    best = _reduced(better, (most_sx1, blocks_sx32, peak_sx1), xp)
    return best[1], best[2]


def _reduced(better: Callable, start: tuple, xp: Any) -> tuple:
    """`better` over FACTORS, one after the other."""
    factors = np.array(FACTORS, np.float32)
    if xp is np:
        return reduce(better, factors, start)
    import jax

    return jax.lax.scan(lambda best, factor: (better(best, factor), None), start, factors)[0]


def _codes(blocks_sx32: Any, scales_sx1: Any, least: int, most: int, xp: Any) -> Any:
    """The nearest codes, as float32; 0 where a scale is."""
    return xp.clip(xp.rint(_ratio(blocks_sx32, scales_sx1, xp)), least, most)


def _ratio(above: Any, below: Any, xp: Any) -> Any:
    """0 where it would be divided by 0."""
    return xp.where(below != 0, above / xp.where(below != 0, below, 1), 0)


def _half(x: Any, xp: Any) -> Any:
    """float32, rounded to a number of float16."""
    if xp is np:
        return x.astype(np.float16).astype(np.float32)
    import jax

    # XLA leaves out a conversion to float16 and back, and this operation is 0 below normal numbers.
    small = xp.rint(x / LEAST) * LEAST
    return xp.where(xp.abs(x) < LEAST_NORMAL, small, jax.lax.reduce_precision(x, 5, 10))


def _packed(codes_sx32: np.ndarray, bits: int) -> np.ndarray:
    """uint8: see `Quantized`."""
    if bits == 8:
        return codes_sx32.view(np.uint8)
    above = (codes_sx32 + 2 ** (bits - 1)).astype(np.uint8)
    each = above[..., None] >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(each.reshape(len(codes_sx32), -1), axis=1, bitorder="little")


def _unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    """int8 [s, 32]."""
    if bits == 8:
        return codes.view(np.int8)
    each = np.unpackbits(codes, axis=1, bitorder="little").reshape(len(codes), BLOCK, bits)
    above = (each << np.arange(bits, dtype=np.uint8)).sum(-1, dtype=np.int8)
    return above - np.int8(2 ** (bits - 1))
