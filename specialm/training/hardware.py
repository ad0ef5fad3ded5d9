"""Peak arithmetic of a device, to state MFU against."""

import time
from functools import lru_cache

import jax
import jax.numpy as jnp

# Dense bf16 peak of one chip in FLOP/s, from the vendors' public data sheets.
PEAK_FLOPS = {
    "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5e": 197e12, "TPU v5p": 459e12,
    "TPU v5": 459e12, "TPU v6 lite": 918e12, "TPU v6e": 918e12, "TPU7x": 2307e12,
    "NVIDIA A100": 312e12, "NVIDIA H100": 989e12, "NVIDIA H200": 989e12, "NVIDIA B200": 2250e12,
}


def peak_flops(device: jax.Device) -> float:
    """FLOP/s of one device: from the table, else measured (float32 matrix product)."""
    matches = [name for name in PEAK_FLOPS if device.device_kind.startswith(name)]
    if matches:
        return PEAK_FLOPS[max(matches, key=len)]
    return _measured() / (jax.local_device_count() if device.platform == "cpu" else 1)


@lru_cache
def _measured(size: int = 1024, repeats: int = 5) -> float:
    square = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(square).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product(square).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
