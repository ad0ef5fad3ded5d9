"""Sizes that cannot fit in memory, said before anything is compiled.

The estimate is a lower bound, far below what is really needed: nothing that could run is refused.
It is made of the settings alone, without JAX.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from specialm import methods
from specialm.clustering import levels
from specialm.common.errors import UserError
from specialm.config import find
from specialm.models import ranks, sharing

FLOAT = 4  # bytes
COPIES = 2  # of a batch: on the host and on the devices
BATCH = 12  # bytes a token of a batch: inputs, targets and mask
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
SIZES = ("model.num_layers", "model.d_model", "model.d_ff")
DTYPES = ("train.param_dtype", "train.moment_dtype", "train.second_moment_dtype")
BANK = ("model.num_experts", "model.bank_size", "model.code_size", "model.mixer_hidden")
KEPT = ("train.bank_every", "train.groups")
ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel*", "/dev/vfio/[0-9]*", "/dev/kfd")


@dataclass(frozen=True)
class Need:
    """What something takes at least, over all devices."""

    what: str
    size: int  # bytes
    settings: tuple[str, ...]  # that it comes from


def of_pretraining(config: ConfigDict, method: str) -> Iterator[Need]:
    """What pretraining with a method takes at least."""
    model = config.model
    computed = model.embedder in ("factored", "bytes")
    has_rows = not computed or model.head == "untied"
    sizes: tuple[str, ...] = (*SIZES, "data.vocabulary_size")
    rows = config.data.vocabulary_size if has_rows else 0
    if model.embedder == "ngrams":
        rows += (model.ngram_order - 1) * model.ngram_rows
        sizes += ("model.ngram_order", "model.ngram_rows")
    dense = sharing.fewest(model) * _layer(config) + rows * model.d_model
    state = FLOAT + _bytes(config.train.moment_dtype)
    state += _bytes(config.train.param_dtype) + _bytes(config.train.second_moment_dtype)
    yield Need("parameters, gradients and moments of the optimizer", state * dense, sizes)
    yield from _experts(config, method, dense, state)
    yield from of_clusters(config, method)
    yield from of_batches(config)


def of_batches(config: ConfigDict) -> Iterator[Need]:
    """What the tokens and activations of fine-tuning, scoring and training take at least."""
    model = config.model
    window = config.data.context * (2 * model.num_layers * model.d_model + 2 * model.d_ff)
    yield Need("the activations of one window", window, ("data.context", *SIZES))
    for name in ("train.batch_size", "finetune.batch_size", "evaluate.batch_size"):
        batch = COPIES * BATCH * find(config, name) * config.data.context
        yield Need("the tokens of a batch", batch, (name, "data.context"))
    rank, setting, text = (
        config.finetune.lora_rank,
        "finetune.lora_rank",
        config.finetune.lora_targets,
    )
    if text:
        rank, setting = max(rank for _, rank in ranks.read(text, rank)), ranks.SETTING
    adapters = 4 * FLOAT * rank * model.num_layers * model.d_model
    yield Need("LoRA's matrices and moments", adapters, (setting, *SIZES[:2]))


def of_clusters(config: ConfigDict, method: str) -> Iterator[Need]:
    """What the clusters that a method needs take at least."""
    count, setting = methods.get(method).draws.clusters(config)
    if not count:
        return
    if config.clustering.method == "tree":
        count, setting = levels.nodes(config.clustering.branching), "clustering.branching"
    size = FLOAT * count * methods.centroid_size(config)
    yield Need("centroids", size, (setting, "clustering.encoder", "clustering.dim"))


def _bytes(dtype: str) -> int:
    """Of a number, at least."""
    return {"bfloat16": 2, "int8": 1, "factored": 0}.get(dtype, FLOAT)


def _layer(config: ConfigDict) -> int:
    """Parameters of the matrices of a layer, at least."""
    model = config.model
    heads = model.num_heads + (model.num_kv_heads or model.num_heads)
    size = model.head_size or model.d_model // model.num_heads
    return 2 * model.d_model * (heads * size + model.d_ff)


def _experts(config: ConfigDict, method: str, dense: int, state: int) -> Iterator[Need]:
    record, model = methods.get(method), config.model
    what = "parameters, gradients and moments of all experts"
    if record.is_mixture and model.only_expert < 0:
        size = state * model.num_experts * dense
        yield Need(what, size, ("model.num_experts", "model.num_layers", "model.d_model"))
    if record.is_bank:
        rank = model.bank_size or model.num_experts
        layers = len(model.bank_layers) or sharing.fewest(model)
        # The gradients of a bank are of the dtype of its parameters.
        state += _bytes(config.train.param_dtype) - FLOAT
        one = layers * 2 * model.d_model * model.d_ff
        size = state * rank * one
        names: tuple[str, ...] = ("model.bank_size", "model.num_experts", *SIZES[1:])
        if config.train.bank_every > 1:  # the gradients that are kept until then
            size += FLOAT * config.train.bank_every * config.train.groups * one
            names = (*names, *KEPT)
        yield Need(what, size, names)


def check(config: ConfigDict, needs: Iterable[Need], available: int, where: str) -> None:
    """Raises UserError for what takes more than there is, with the estimate.

    Args:
      available: bytes, over all devices.
      where: "this machine" for example.
    """
    for need in needs:
        if need.size > available:
            settings = ", ".join(f"{name}={find(config, name)!r}" for name in need.settings)
            raise UserError(
                f"{settings}: {need.what} take at least {_shown(need.size)}, but {where} has "
                f"{_shown(available)}; choose smaller ones."
            )


def check_here(config: ConfigDict, needs: Iterable[Need]) -> None:
    """`check` against this machine's memory, if it computes on its CPU alone."""
    if not has_accelerator() and os.environ.get("SPECIALM_DISTRIBUTED", "") in ("", "0"):
        check(config, needs, host_memory(), "this machine")


def check_devices(
    config: ConfigDict, method: str, size: int, devices: list[Any], processes: int
) -> None:
    """`check` of pretraining against the memory of JAX's devices, or of the hosts where these are
    CPUs, with all that a step holds counted.

    Args:
      size: bytes of the latter, over all devices (`step_memory.of_step`).
    """
    available, where = processes * host_memory(), "this machine"
    if devices[0].platform != "cpu":
        limit = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
        available, where = len(devices) * limit, f"the memory of {len(devices)} devices"
    kept = KEPT if methods.get(method).is_bank and config.train.bank_every > 1 else ()
    counted = Need("parameters, gradients and moments", size, (*SIZES, *BANK, *DTYPES, *kept))
    if available:  # else the platform does not say
        check(config, [*of_pretraining(config, method), counted], available, where)


def has_accelerator() -> bool:
    """Whether JAX may find more than the CPU here."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return platforms != "cpu" and any(glob.glob(pattern) for pattern in ACCELERATORS)


def host_memory() -> int:
    """Bytes of memory that this process may use; without bound where that is not known."""
    limits = [_number(path) for path in CGROUPS]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([limit for limit in limits if limit > 0], default=1 << 60)


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return 0


def _shown(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} EB"
