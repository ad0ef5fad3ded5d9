"""How JAX is started: call `configure()` before anything imports JAX."""

import os
from pathlib import Path

from specialm.errors import UserError


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


def join_processes() -> None:
    """Joins the other processes of a job when `SPECIALM_DISTRIBUTED=1`, as `launch/` sets it.

    On TPU VMs, in GKE and under SLURM JAX finds address, count and number by itself. Call it
    behind `configure()` and before anything asks JAX for devices.

    Raises:
      UserError: JAX finds no such cluster here.
    """
    if os.environ.get("SPECIALM_DISTRIBUTED", "") in ("", "0"):
        return
    import jax

    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise UserError("SPECIALM_DISTRIBUTED=1, but JAX finds neither a TPU slice nor a SLURM job "
                        f"here ({error}); unset it to run in one process.") from error
