"""Several domains at the same time, one process and one device for each.

The processes run `specialm specialize` for one domain each. What they have done are stages in the
work folder, so whoever goes through the domains afterwards finds all of it; what failed in one of
them fails there again, with its sentence. Their output is in WORKDIR/logs.
"""

import glob
import os
import queue
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from specialm.common import processes, runtime
from specialm.workflows.domains import Domain

VISIBLE, COUNT = "CUDA_VISIBLE_DEVICES", "--xla_force_host_platform_device_count"


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. JAX is not
    asked: it would take their memory.
    """
    if VISIBLE in os.environ:
        return [name for name in os.environ[VISIBLE].split(",") if name.strip()]
    return [str(number) for number in range(len(glob.glob("/dev/nvidia[0-9]*")))]


def devices() -> int:
    """How many domains are specialised at a time: one on each GPU; one where there is none."""
    return max(1, len(gpus()))


def specialise(
    bases: Sequence[Path],
    domains: Sequence[Domain],
    overrides: Sequence[str],
    options: dict,
    jobs: int,
) -> None:
    """Specialises every one of `bases` to every domain, `jobs` domains at a time.

    Args:
      options: of `specialm specialize`.
    """
    workdir = Path(options["workdir"] or "runs/domains")
    (workdir / "logs").mkdir(parents=True, exist_ok=True)
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(jobs):
        free.put(slot)

    def command(base: Path, domain: Domain) -> list[str]:
        return [
            *(sys.executable, "-m", "specialm", "specialize", f"--checkpoint={base}"),
            *(f"--source={domain.source}", f"--name={domain.name}"),
            *(f"--workdir={workdir}", *overrides, *(["--trust"] * options["trust"])),
        ]

    def work(domain: Domain) -> None:
        slot = free.get()
        try:
            with (workdir / "logs" / f"{domain.name}.txt").open("w") as log:
                for base in bases:
                    subprocess.run(
                        command(base, domain), stdout=log, stderr=log, env=_environment(slot, jobs)
                    )
        finally:
            free.put(slot)  # or those who wait for it would wait for ever
        processes.tell(f"{domain.name}: its process has ended ({log.name})")

    processes.tell(f"{len(domains)} domains, {jobs} at a time; their output is in {workdir}/logs")
    with ThreadPoolExecutor(jobs) as threads:
        list(threads.map(work, domains))


def _environment(slot: int, jobs: int) -> dict[str, str]:
    """That of the process in a slot: one GPU, or its share of the cores."""
    found, flags = gpus(), os.environ.get("XLA_FLAGS", "")
    if found:
        return {**os.environ, VISIBLE: found[slot % len(found)]}
    cores = max(1, runtime.cores() // jobs)
    others = re.sub(rf"{COUNT}=\d+", "", flags)
    return {**os.environ, "XLA_FLAGS": f"{others} {COUNT}={cores}".strip()}
