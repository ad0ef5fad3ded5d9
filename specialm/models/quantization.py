"""Weights in 8 or 4 bits: blocks of 32 numbers with one scale each, by NumPy alone.

A number is code * scale, the codes whole. With 8 bits the scale makes the block's largest absolute
value 127, as in GGUF's Q8_0. With 4 bits it makes it -8, as in Q4_0, or is a multiple of that with
which the squared error of the block is less (FACTORS). Scales are float16, and codes are those that
are nearest with the rounded scale. Blocks run along a tensor as it lies in memory, the last filled
up with zeros.
"""

from dataclasses import dataclass

import numpy as np

from specialm.common.errors import UserError

BLOCK = 32
BITS = (8, 4)
FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 1.05)  # of the scale, tried with 4 bits
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Quantized:
    """One tensor.

    Attributes:
      codes: uint8, of each block its codes one after the other: int8, or two in a byte, the first
        in the lower half, 8 more than they stand for.
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


def quantize(values: np.ndarray, bits: int) -> Quantized:
    """A tensor in `bits` of BITS.

    Raises:
      UserError: other bits; numbers that are not finite, or too large for a scale.
    """
    if bits not in BITS:
        raise UserError(f"bits={bits}: must be one of {', '.join(map(str, BITS))}.")
    flat = np.asarray(values, np.float32).reshape(-1)
    blocks_sx32 = np.pad(flat, (0, -len(flat) % BLOCK)).reshape(-1, BLOCK)
    if not np.isfinite(blocks_sx32).all() or np.abs(blocks_sx32).max(initial=0) > LARGEST:
        raise UserError("a weight is not finite, or above 65,504: this cannot be quantized.")
    codes_sx32, scales_s = _eight(blocks_sx32) if bits == 8 else _four(blocks_sx32)
    return Quantized(_packed(codes_sx32, bits), scales_s, np.shape(values), bits)


def dequantize(tensor: Quantized) -> np.ndarray:
    """float32, of the tensor's shape."""
    codes_sx32 = _unpacked(tensor.codes, tensor.bits).astype(np.float32)
    flat = (codes_sx32 * tensor.scales_s.astype(np.float32)[:, None]).reshape(-1)
    return flat[: int(np.prod(tensor.shape, dtype=np.int64))].reshape(tensor.shape)


def _eight(blocks_sx32: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scales_s = (np.abs(blocks_sx32).max(axis=1) / 127).astype(np.float16)
    return _codes(blocks_sx32, scales_s, -127, 127), scales_s


def _four(blocks_sx32: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    largest_sx1 = np.abs(blocks_sx32).argmax(axis=1)[:, None]
    peak_s = np.take_along_axis(blocks_sx32, largest_sx1, axis=1)[:, 0] / -8
    best_s = np.full(len(blocks_sx32), np.inf, np.float32)
    codes_sx32 = np.zeros(blocks_sx32.shape, np.int8)
    scales_s = np.zeros(len(blocks_sx32), np.float16)
    for factor in FACTORS:
        tried_s = (peak_s * factor).astype(np.float16)
        tried_sx32 = _codes(blocks_sx32, tried_s, -8, 7)
        error_s = np.square(tried_sx32 * tried_s.astype(np.float32)[:, None] - blocks_sx32).sum(1)
        better_s = error_s < best_s
        codes_sx32[better_s], scales_s[better_s] = tried_sx32[better_s], tried_s[better_s]
        best_s = np.minimum(best_s, error_s)
    return codes_sx32, scales_s


def _codes(blocks_sx32: np.ndarray, scales_s: np.ndarray, least: int, most: int) -> np.ndarray:
    """int8: the nearest codes; 0 where a scale is."""
    scale_sx1 = scales_s.astype(np.float32)[:, None]
    ratio_sx32 = np.divide(
        blocks_sx32, scale_sx1, out=np.zeros_like(blocks_sx32), where=scale_sx1 != 0
    )
    return np.clip(np.rint(ratio_sx32), least, most).astype(np.int8)


def _packed(codes_sx32: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return codes_sx32.view(np.uint8)
    above = (codes_sx32 + 8).astype(np.uint8)
    return above[:, ::2] | above[:, 1::2] << 4


def _unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8:
        return codes.view(np.int8)
    both = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), BLOCK)
    return both.astype(np.int8) - 8
