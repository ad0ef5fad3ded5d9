"""How JAX is started: call `configure()` before anything imports JAX."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled programs are kept: `SPECIALM_CACHE`, or `~/.cache/specialm`."""
    base = os.environ.get("SPECIALM_CACHE") or Path.home() / ".cache" / "specialm"
    return Path(base) / "compiled"


def configure() -> None:
    """Keeps compiled programs on disk, so that a second start skips the compilation.

    Only environment variables are set, and only those that the user has not set; JAX reads them
    when it is imported.
    """
    defaults = {
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # On a CPU every core is a device of its own with its share of the batch: one thread on data
    # that stays in its cache beats all threads on each small operation.
    count = "xla_force_host_platform_device_count"
    flags = os.environ.get("XLA_FLAGS", "")
    if count not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{count}={os.cpu_count()}".strip()
