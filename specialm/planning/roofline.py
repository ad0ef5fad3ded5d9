"""What a compiled training step would take on a TPU slice: a roofline, from what the program
computes, moves and exchanges and from the chip's public peaks.

    compute   FLOPs / peak
    memory    bytes to and from HBM / its rate
    exchange  bytes sent / the rate of the links that its group of devices has

A step is a band. Its lower bound is the largest of compute, memory and all exchanges: as if
each ran beside the others from the first moment to the last. No program is faster on this chip. Its
upper end is their sum: as if nothing ran beside anything. Between them `step_seconds` assumes what
XLA's schedule aims at: the exchanges inside of loops (those of the layers) run beside arithmetic,
those outside (the sum over copies of the model at the end) beside nothing, and neither does an
all-to-all that the compiler does not start early. Real programs reach a part of each peak, so they
may well be slower than the upper end.
"""

import math
import re

from specialm.models import families
from specialm.planning import aot, hlo
from specialm.planning.flops import matmul_flops
from specialm.training import hardware
from specialm.training.hardware import Chip


def report(program: aot.Program, chip: Chip, torus: tuple[int, ...]) -> dict:
    """What `specialm compile` prints.

    Args:
      chip: one device of the slice.
      torus: devices along each axis of the slice.

    Returns:
      Of each device: flops (recomputation and projection included), hbm_bytes, peak_memory_bytes,
      memory_limit_bytes, fits, collective_bytes {kind: bytes}, seconds {compute, memory,
      exchange_in_loops, exchange_outside}; of the whole: devices, step_seconds and the band around
      it, step_seconds_band {all_overlapped, none_overlapped}; tokens_per_step, mfu_ceiling (FLOPs
      of the model / (lower bound * peak of all devices)), device_hours_per_billion_tokens (of
      step_seconds); compile_seconds. Of a program that the compiler refuses, as
      it does not fit: fits (False), `refused`, its words, and what does not need the program.
    """
    devices = program.mesh.size
    flops = matmul_flops(program.jaxpr.jaxpr) / devices
    result = {
        "devices": devices,
        "mesh": dict(program.mesh.shape),
        "flops": flops,
        "tokens_per_step": program.tokens,
        "memory_limit_bytes": chip.memory,
        "compile_seconds": program.seconds,
    }
    if program.compiled is None:
        return result | {
            "fits": False,
            "peak_memory_bytes": _asked_for(program.refused),
            "refused": program.refused.split("\n")[0],
        }
    moved = hlo.moved(program.compiled.as_text() or "", devices)
    peak = peak_memory(program.compiled.memory_analysis())
    outside, inside = (
        sum(
            exchange_seconds(exchange, sent, chip, torus)
            for exchange, sent in moved.exchanged.items()
            if exchange.in_loop == in_loop
        )
        for in_loop in (False, True)
    )
    seconds = {
        "compute": flops / chip.flops,
        "memory": moved.hbm_bytes / chip.memory_rate,
        "exchange_in_loops": inside,
        "exchange_outside": outside,
    }
    step = max(seconds["compute"], seconds["memory"], inside) + outside
    around = band(seconds)
    model_flops = program.tokens * families.flops_per_token(
        program.config, True, _tokens_per_group(program)
    )
    return result | {
        "fits": peak <= chip.memory,
        "peak_memory_bytes": peak,
        "hbm_bytes": moved.hbm_bytes,
        "collective_bytes": dict(sorted(moved.collective_bytes.items())),
        "seconds": seconds,
        "step_seconds": step,
        "step_seconds_band": around,
        "mfu_ceiling": model_flops / (devices * chip.flops * around["all_overlapped"]),
        "device_hours_per_billion_tokens": 1e9 / program.tokens * step * devices / 3600,
    }


def band(seconds: dict[str, float]) -> dict[str, float]:
    """The strict lower bound of a step, and what it takes if nothing overlaps.

    Args:
      seconds: of `report`.
    """
    exchanges = seconds["exchange_in_loops"] + seconds["exchange_outside"]
    parts = (seconds["compute"], seconds["memory"], exchanges)
    return {"all_overlapped": max(parts), "none_overlapped": sum(parts)}


def _asked_for(refused: str) -> int | None:
    """Bytes that the compiler says a program needs, when that is too much."""
    found = re.search(r"([\d.]+)G\)? (?:exceeds|of [\d.]+G)", refused)
    return int(float(found[1]) * hardware.GIB) if found else None


def _tokens_per_group(program: aot.Program) -> int:
    return program.tokens // program.groups if program.groups else 0


def peak_memory(analysis) -> int:
    """Bytes that a device needs at once, the program's own code included.

    Args:
      analysis: `jax.stages.Compiled.memory_analysis()`; arguments that results take the place of
        count once.
    """
    return (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
        + analysis.generated_code_size_in_bytes
    )


def exchange_seconds(
    exchange: hlo.Exchange, sent: float, chip: Chip, torus: tuple[int, ...]
) -> float:
    """Seconds for a device to send so many bytes to the others of its group.

    Our reading: a group lies along as few axes of the torus as hold it and uses their links alone.
    Rings pass data on to neighbours only. An all-to-all has no such order: a byte passes as many
    links as it is far, a quarter of each ring on average.
    """
    used, size = 0, 1
    while size < exchange.group and used < len(torus):
        size *= torus[used]
        used += 1
    if not used or exchange.group == 1:
        return 0.0
    rate = chip.link_rate * used / chip.torus_axes
    hops = 1.0
    if exchange.kind == "all-to-all":
        hops = max(1.0, sum(torus[:used]) / 4 * min(1.0, exchange.group / math.prod(torus[:used])))
    return sent * hops / rate
