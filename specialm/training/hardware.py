"""What devices can do, from their vendors' public data sheets: to state MFU against, and to plan
with. JAX is imported where something is measured.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax


@dataclass(frozen=True)
class Chip:
    """One accelerator. Bytes are counted in powers of ten, as the sheets do, but `memory`."""

    flops: float  # dense bfloat16 FLOP/s
    memory: int = 0  # bytes
    memory_rate: float = 0.0  # bytes/s
    # What a chip sends to its neighbours in all directions together, bytes/s, and the axes of the
    # torus that they form.
    link_rate: float = 0.0
    torus_axes: int = 0
    # The most devices between which the compiler can run an all-to-all beside other work.
    async_all_to_all: float = 0


GIB, ANY = 1 << 30, float("inf")
# By the start of JAX's `device_kind`. TPUs: Google Cloud's page on each version; links: half of
# the bidirectional rate where that is what is given. Of larger slices of v5e libtpu says that an
# asynchronous all-to-all is not supported ("limited ICI").
CHIPS = {
    "TPU v4": Chip(275e12, 32 * GIB, 1228e9, 300e9, 3, ANY),
    "TPU v5 lite": Chip(197e12, 16 * GIB, 819e9, 200e9, 2, 16),
    "TPU v5e": Chip(197e12, 16 * GIB, 819e9, 200e9, 2, 16),
    "TPU v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9, 3, ANY),
    "TPU v5": Chip(459e12, 95 * GIB, 2765e9, 600e9, 3, ANY),
    "TPU v6 lite": Chip(918e12, 32 * GIB, 1640e9, 400e9, 2, ANY),
    "TPU v6e": Chip(918e12, 32 * GIB, 1640e9, 400e9, 2, ANY),
    "TPU7x": Chip(2307e12, 192 * GIB, 7380e9, 600e9, 3, ANY),
    "NVIDIA A100": Chip(312e12),
    "NVIDIA H100": Chip(989e12),
    "NVIDIA H200": Chip(989e12),
    "NVIDIA B200": Chip(2250e12),
}


def chip(kind: str) -> Chip | None:
    """The entry of `CHIPS` for a `device_kind`, or None."""
    matches = [name for name in CHIPS if kind.startswith(name)]
    return CHIPS[max(matches, key=len)] if matches else None


def part_of(whole: Chip, devices: int) -> Chip:
    """What JAX calls a device where a chip is so many of them."""
    return Chip(
        whole.flops / devices,
        whole.memory // devices,
        whole.memory_rate / devices,
        whole.link_rate / devices,
        whole.torus_axes,
    )


def peak_flops(device: "jax.Device") -> float:
    """FLOP/s of one device: from the table, else measured (float32 matrix product)."""
    if known := chip(device.device_kind):
        return known.flops
    import jax

    return _measured() / (jax.local_device_count() if device.platform == "cpu" else 1)


@lru_cache
def _measured(size: int = 1024, repeats: int = 5) -> float:
    import jax
    import jax.numpy as jnp

    square = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(square).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product(square).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
