"""The environment of JAX: call `configure()` before anything imports JAX."""

import os
import sys
from pathlib import Path

from specialm.common import signals
from specialm.common.errors import UserError

CLUSTER_VARIABLES = ("SPECIALM_COORDINATOR", "SPECIALM_PROCESSES", "SPECIALM_PROCESS")
SHUTDOWN_SECONDS = 60  # that a process waits for the others at its end


def cache_folder() -> Path:
    """Return the folder of compiled programs, in `SPECIALM_CACHE` or `~/.cache/specialm`."""
    base = os.environ.get("SPECIALM_CACHE") or Path.home() / ".cache" / "specialm"
    return Path(base) / "compiled"


def cores() -> int:
    """Those that this process may use: a job that is bound to some (`taskset`, SLURM) has fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def configure() -> None:
    """Cache compiled programs on disk, so that a second start skips the compilation.

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
        os.environ["XLA_FLAGS"] = f"{flags} --{count}={cores()}".strip()


def keep_small_programs() -> None:
    """Cache also what compiles in less than half a second, for a command that starts often."""
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def join_processes() -> None:
    """Join the other processes of a job when `SPECIALM_DISTRIBUTED=1`, as `launch/` sets it.

    On TPU VMs, in GKE and under SLURM JAX finds address, count and number by itself. Elsewhere set
    `SPECIALM_COORDINATOR` (address:port of process 0), `SPECIALM_PROCESSES` (how many) and
    `SPECIALM_PROCESS` (which one this is, from 0).

    Call it after `configure()` and before anything asks JAX for devices.

    Raises:
      UserError: JAX finds no such cluster here; a variable has a wrong value.

    """
    if os.environ.get("SPECIALM_DISTRIBUTED", "") in ("", "0"):
        return
    arguments = _given_cluster()
    import jax

    if jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(**arguments, shutdown_timeout_seconds=SHUTDOWN_SECONDS)
    except ValueError as error:
        raise UserError(
            "SPECIALM_DISTRIBUTED=1, but JAX finds neither a TPU slice nor a SLURM job "
            f"here ({error}); unset it to run in one process, or start the processes "
            f"by hand with {', '.join(CLUSTER_VARIABLES)}."
        ) from error
    signals.reinstall()  # JAX has taken SIGTERM
    # All processes exchange their lists of devices now, while none is busy with text.
    if jax.devices()[0].platform == "cpu":
        _silence_libraries()


def _silence_libraries() -> None:
    """Redirect the standard output of libraries, not of Python, to nowhere.

    gloo, with which CPUs exchange sums, prints every connection there, and a command's result may
    be JSON.
    """
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _given_cluster() -> dict:
    """Return the arguments of `jax.distributed.initialize` that the environment gives, if any."""
    given = {name: os.environ[name] for name in CLUSTER_VARIABLES if os.environ.get(name)}
    if not given:
        return {}
    missing = [name for name in CLUSTER_VARIABLES if name not in given]
    if missing:
        raise UserError(
            f"{', '.join(given)} set, but not {', '.join(missing)}; set all of "
            f"{', '.join(CLUSTER_VARIABLES)}, or none."
        )
    address, processes, process = given.values()
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(
            f"SPECIALM_COORDINATOR={address}: must be HOST:PORT of process 0, as in 127.0.0.1:9876."
        )
    if not processes.isdecimal() or not int(processes):
        raise UserError(
            f"SPECIALM_PROCESSES={processes}: must be how many processes the job has, at least 1."
        )
    if not process.isdecimal() or int(process) >= int(processes):
        raise UserError(
            f"SPECIALM_PROCESS={process}: must be the number of this process, from 0 "
            f"to {int(processes) - 1} (SPECIALM_PROCESSES={processes})."
        )
    arguments = {
        "coordinator_address": address,
        "num_processes": int(processes),
        "process_id": int(process),
        "cluster_detection_method": "deactivate",
    }
    if host in ("localhost", "127.0.0.1"):
        arguments["coordinator_bind_address"] = address  # nothing from outside can reach it
    return arguments
