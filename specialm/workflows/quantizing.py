"""A model with its weights in 8 bits or fewer, as a run folder: `specialm quantize`.

RUN/quantized.safetensors has the weights as they are stored: of each matrix `NAME.codes` and
`NAME.scales` (`models/quantization.py`), of a linear map with its inputs as the last axes, all else
in float32. The checkpoint beside it has what they stand for, in float32, so that every other
command takes the model.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import numpy as safetensors

from specialm.common.errors import UserError
from specialm.common.stages import Stage, Stages
from specialm.models import families, quantization, tensors, transformer
from specialm.models.quantization import Quantized
from specialm.training import origin, runs, sharding

PHASE, FILE = "quantized", "quantized.safetensors"


def quantize(base: Path, key: str, bits: int, stages: Stages) -> Stage:
    """The run folder of the dense model in `base` with its matrices in `bits` bits.

    Args:
      key: identifies the base model's content.

    Raises:
      UserError: bits that are not of `quantization.BITS`; no dense model; weights not finite.
    """
    record = runs.read_record(base)
    if record.get("kind", families.DENSE) != families.DENSE:
        raise UserError(
            f"--checkpoint={base}: {record['method']} is a {record['kind']}; take one model out "
            "with `specialm specialize` first."
        )
    inputs = {"base": key, "bits": bits, "block": quantization.BLOCK, "along": "inputs"}
    name = f"{PHASE}/{record['method']}-int{bits}"
    return stages.run(name, inputs, lambda path: _write(path, base, bits))


def _write(path: Path, base: Path, bits: int) -> dict:
    started = time.perf_counter()
    model = runs.load(base, sharding.make_mesh())
    config = families.dense(model.config)
    stored = pack(jax.device_get(model.params), config, bits)
    path.mkdir(parents=True, exist_ok=True)
    safetensors.save_file(arrays(stored), path / FILE, {"bits": str(bits)})
    runs.save(path, unpack(stored, model.params, config))
    found = {
        "stored_bytes": sum(_bytes(each) for each in stored.values()),
        "float32_bytes": 4 * transformer.num_params(config),
        "bits": bits,
    }
    entry = {
        "phase": PHASE,
        "tokens": 0,
        "flops": 0,
        "seconds": time.perf_counter() - started,
        **found,
    }
    record = model.record
    runs.describe(
        path,
        config,
        model.vocabulary,
        record["method"],
        record["domain"],
        record["seed"],
        [*record["ledger"], entry],
        origin.inherited(base, path),
    )
    return found | {"seconds": entry["seconds"]}


def pack(params: Any, config: transformer.Config, bits: int) -> dict[str, Quantized | np.ndarray]:
    """{name: a matrix in `bits` bits, or another tensor in float32}; constants, which follow from
    the vocabulary, are left out.
    """
    return {
        ".".join(path): quantization.quantize(quantization.inputs_last(value, tensor, np), bits)
        if tensor.decay
        else np.asarray(value, np.float32)
        for path, tensor in tensors.flatten(transformer.declare(config))
        if not tensor.constant
        for value in [np.asarray(tensors.get(params, path))]
    }


def unpack(
    stored: Mapping[str, Quantized | np.ndarray], params: Any, config: transformer.Config
) -> Any:
    """The parameters that these stand for, float32.

    Args:
      params: has the constants.
    """
    for path, tensor in tensors.flatten(transformer.declare(config)):
        if not tensor.constant:
            value = stored[".".join(path)]
            if isinstance(value, Quantized):
                back = quantization.dequantize(value)
                value = quantization.inputs_first(back, tensor, np)
            params = tensors.updated(params, path, value)
    return params


def arrays(stored: Mapping[str, Quantized | np.ndarray]) -> dict[str, np.ndarray]:
    """What is written of `pack`."""
    found: dict[str, np.ndarray] = {}
    for name, value in stored.items():
        if isinstance(value, Quantized):
            found |= {f"{name}.codes": value.codes, f"{name}.scales": value.scales_s}
        else:
            found[name] = value
    return found


def _bytes(value: Quantized | np.ndarray) -> int:
    return value.num_bytes if isinstance(value, Quantized) else value.nbytes


def summary(stage: Stage, before: dict[str, dict], after: dict[str, dict]) -> str:
    """What it takes and what it cost, for people.

    Args:
      before, after: {held-out set: its figures}, see `heldout.scores`.
    """
    found = stage.result
    share = found["stored_bytes"] / found["float32_bytes"]
    lines = [
        f"{stage.path}: {found['stored_bytes']:,} bytes stored, {share:.1%} of float32",
        f"{'bits per byte':20} {'before':>10} {'after':>10} {'change':>10}",
    ]
    for name, was in before.items():
        a, b = was["bits_per_byte"], after[name]["bits_per_byte"]
        lines.append(f"{name:20} {a:10.4f} {b:10.4f} {b - a:+10.4f}")
    return "\n".join(lines)
