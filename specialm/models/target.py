"""The platform that programs are compiled for: that of this process's devices, or another one
ahead of time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

_TARGET: ContextVar[str] = ContextVar("target", default="")


def platform() -> str:
    """ "cpu", "gpu" or "tpu"."""
    return _TARGET.get() or jax.default_backend()


@contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Programs that are traced inside are compiled for this platform."""
    token = _TARGET.set(platform)
    try:
        yield
    finally:
        _TARGET.reset(token)
