"""`specialm compile`: a config's training step on a TPU slice, and the largest batch that fits."""

import copy
import math
import sys

from ml_collections import ConfigDict

from specialm import methods
from specialm.common.errors import UserError
from specialm.planning import aot, roofline
from specialm.training import hardware, layout, sharding

MOST_WINDOWS = 1024  # of a device, in the search for the largest batch


def compile_report(
    config: ConfigDict, topology: str, windows: int = 16, largest: bool = False
) -> dict:
    """Compiles the step and reports what `roofline.report` says of it.

    Args:
      topology: "v5e:16x16" for example.
      windows: of each device that windows are divided over; 0 takes `train.batch_size` and
        `train.groups` as they are. With another number a bank of several groups gets one for each
        row of devices along `mesh.fsdp`, if there are `train.groups` rows or more, else one for
        each of these devices.
      largest: also look for the largest batch, see `largest_batch`.

    Raises:
      UserError: a topology that is not known, or sizes that do not divide over it.
    """
    if windows < 0:
        raise UserError(f"--windows_per_device={windows}: must be at least 0.")
    compiled, _ = _compiler(config, topology)
    result = compiled(windows)
    return result | largest_batch(config, topology, result) if largest else result


def largest_batch(config: ConfigDict, topology: str, first: dict) -> dict:
    """The most windows per device that fit (`largest_windows_per_device`, to a multiple of 8 from 8
    on; 0 when none was found that fits), and `peak_memory_bytes_by_windows` of what was tried.

    Memory grows by as much for each window: two sizes tell which one fits, and compiling that
    confirms it.

    Args:
      first: `compile_report` of any batch.
    """
    compiled, copies = _compiler(config, topology)
    limit, start = first["memory_limit_bytes"], first["batch_size"] // copies
    peaks, fitting = {start: first["peak_memory_bytes"]}, [start] if first["fits"] else []

    def fits(windows: int) -> bool:
        if windows not in peaks:
            print(f"  {windows} windows per device ...", file=sys.stderr, flush=True)
            result = compiled(windows)
            peaks[windows] = result["peak_memory_bytes"]
            fitting.extend([windows] if result["fits"] else [])
        return windows in fitting

    other = 2 * start if fits(start) else max(1, start // 2)
    if fits(other) and other > start:
        slope = (peaks[other] - peaks[start]) / (other - start)
        guess = int(start + (limit - peaks[start]) / slope) if slope > 0 else MOST_WINDOWS
    else:
        guess = max(start, other) - 1
    guess = _rounded(min(guess, MOST_WINDOWS))
    while guess > max(fitting, default=0) and not fits(guess):
        guess = _rounded(int(guess * min(0.97, limit / (peaks[guess] or limit))))
    return {
        "largest_windows_per_device": max(fitting, default=0),
        "peak_memory_bytes_by_windows": {str(w): peaks[w] for w in sorted(peaks)},
    }


def _compiler(config: ConfigDict, topology: str):
    """(windows per device -> report, devices that windows are divided over) on a slice."""
    torus = _torus(topology)
    devices = aot.slice_devices(topology)
    whole = hardware.chip(devices[0].device_kind)
    if whole is None or not whole.memory_rate:
        raise UserError(
            f"--topology={topology}: the peaks of {devices[0].device_kind} are not in "
            "specialm/training/hardware.py; add them."
        )
    chip = hardware.part_of(whole, len(devices) // math.prod(torus))
    mesh = aot.mesh_of(config, devices)
    copies = sharding.parts(mesh, "batch")
    rows = layout.num_rows(mesh.shape)
    groups = rows if rows >= config.train.groups else copies

    def compiled(windows: int) -> dict:
        sized = _sized(config, windows * copies, groups) if windows else config
        compiled_step = aot.compile_step(sized, devices)
        return {
            "topology": topology,
            "method": config.method,
            "remat": config.model.remat,
            "batch_size": sized.train.batch_size,
            "groups": compiled_step.groups,
            **roofline.report(compiled_step, chip, torus),
        }

    return compiled, copies


def _torus(topology: str) -> tuple[int, ...]:
    sizes = topology.partition(":")[2].split("x")
    if not all(size.isdigit() and int(size) for size in sizes):
        raise UserError(
            f"--topology={topology!r}: write NAME:AxB or NAME:AxBxC, as in v5e:16x16 or v5p:4x4x4."
        )
    return tuple(int(size) for size in sizes)


def _sized(config: ConfigDict, batch_size: int, groups: int) -> ConfigDict:
    sized = copy.deepcopy(config).unlock()
    sized.train.batch_size = batch_size
    if methods.get(config.method).is_bank and config.train.groups > 1:
        sized.train.groups = groups
    return sized.lock()


def _rounded(windows: int) -> int:
    """Down to a multiple of 8 from 8 on."""
    return windows // 8 * 8 if windows >= 8 else windows


def table(result: dict) -> str:
    """The report as text."""

    def short(value) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{key} {short(inner)}" for key, inner in value.items())
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"

    return "\n".join(f"{name:34} {short(value)}" for name, value in result.items())
