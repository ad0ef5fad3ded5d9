"""Adapters in PEFT's layout (adapter_config.json, adapter_model.safetensors): what peft,
transformers and vLLM load on top of the base model.

There an adapter changes W by lora_alpha / r * lora_B lora_A, of one module each. Ours are written
with alpha / rank multiplied into lora_B and lora_alpha = r, so that programs that read one scale
for all modules are right where ranks differ. Maps that are one here and several there (qkv) share
their lora_A; several of ours in one of theirs (q and v in GPT-2's c_attn) are put side by side.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from specialm.common.files import write_json
from specialm.models import lora, tensors
from specialm.models.config import Config
from specialm.serving.architectures.record import Architecture, Json
from specialm.serving.foreign import blank
from specialm.serving.huggingface_writer import DTYPES

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Module:
    """The adapter of one linear map of the other program."""

    a: np.ndarray  # [r, inputs]
    b: np.ndarray  # [outputs, r]
    magnitude: np.ndarray | None  # [outputs], of DoRA

    def beside(self, other: "Module") -> "Module":
        """Both changes together."""
        a, b = np.concatenate([self.a, other.a]), np.concatenate([self.b, other.b], axis=1)
        return Module(a, b, other.magnitude)


def modules(
    architecture: Architecture,
    config: Config,
    params: Any,
    settings: lora.Config,
    adapters: lora.Adapters,
) -> dict[str, Module]:
    """{name of a linear map in the Hugging Face layout: its adapter}.

    Args:
      params: the merged model, NumPy arrays.
    """
    found: dict[str, Module] = {}
    magnitudes = _magnitudes(architecture, config, params, settings, adapters)
    for name, target, rank in lora.adapted(config, settings):
        b = np.asarray(adapters[name]["b"], np.float32) * np.float32(settings.alpha / rank)
        whole = np.zeros((*b.shape[:2], *_outputs(config, target)), np.float32)
        touched = whole.copy()
        place = (slice(None), slice(None), *target.where[1 + target.tensor.inputs :])
        whole[place], touched[place] = b, 1
        is_there = _theirs(architecture, config, target, touched)
        for theirs, b_OxR in _theirs(architecture, config, target, whole).items():
            if not is_there[theirs].any():
                continue
            layer = int(LAYER.search(theirs)[1])  # type: ignore[index]
            a_RxI = np.asarray(adapters[name]["a"][layer], np.float32).reshape(-1, rank).T
            module = Module(a_RxI, b_OxR, magnitudes.get(theirs))
            found[theirs] = found[theirs].beside(module) if theirs in found else module
    return found


def _outputs(config: Config, target: lora.Target) -> tuple[int, ...]:
    """The shape of the outputs of the map that a target lies in."""
    _, tensor = lora.linear_maps(config)[target.path[-1]]
    return tensor.shape[1 + tensor.inputs :]


def _theirs(
    architecture: Architecture, config: Config, target: lora.Target, ours: np.ndarray
) -> dict[str, np.ndarray]:
    """{name there: [outputs, n]} of the modules that a map of ours is in the other layout.

    Args:
      ours: [Y, n, outputs...], in the place of the map's weights, n for its inputs.
    """
    inputs = (ours.shape[1], *(1,) * (target.tensor.inputs - 1))
    ours = np.ascontiguousarray(ours.reshape(len(ours), *inputs, *ours.shape[2:]))
    params = tensors.updated(blank(config), ("layers", *target.path), ours)
    found = {}
    for view in architecture.views(params, config):
        if np.may_share_memory(view.ours, ours):
            is_turned = view.name.endswith(architecture.gguf_turned)  # [inputs, outputs] there
            flat = np.ascontiguousarray(view.ours)
            found[view.name] = (
                flat.reshape(-1, view.shape[1]).T if is_turned else flat.reshape(view.shape[0], -1)
            )
    return found


def _magnitudes(
    architecture: Architecture,
    config: Config,
    params: Any,
    settings: lora.Config,
    adapters: lora.Adapters,
) -> dict[str, np.ndarray]:
    """{name there: [outputs]}, none without DoRA; where nothing was trained the norms of W."""
    found: dict[str, np.ndarray] = {}
    if not settings.dora:
        return found
    of_maps: dict[tuple[str, ...], np.ndarray] = {}
    for name, target, _ in lora.adapted(config, settings):
        weights = tensors.get(params["layers"], target.path)
        inputs = tuple(range(1, 1 + target.tensor.inputs))
        norms = of_maps.setdefault(target.path, np.sqrt(np.square(weights).sum(inputs)))
        norms[(slice(None), *target.where[1 + target.tensor.inputs :])] = adapters[name]["m"]
        rows = _theirs(architecture, config, target, norms[:, None])
        found |= {theirs: column_Ox1[:, 0] for theirs, column_Ox1 in rows.items()}
    return found


def write(
    folder: Path, architecture: Architecture, made: dict[str, Module], base: str, dtype: str
) -> None:
    """Writes adapter_config.json and adapter_model.safetensors.

    Args:
      made: see `modules`.
      base: name or folder of the model that it is loaded on.
      dtype: of huggingface_writer.DTYPES.
    """
    from safetensors.flax import save_file

    saved, ranks = {}, {}
    for name, module in made.items():
        whole = PREFIX + name.removesuffix(".weight")
        saved[f"{whole}.lora_A.weight"] = module.a
        saved[f"{whole}.lora_B.weight"] = module.b
        if module.magnitude is not None:
            saved[f"{whole}.lora_magnitude_vector"] = module.magnitude
        ranks[LAYER.split(name.removesuffix(".weight"))[-1]] = len(module.a)
    arrays = {key: jnp.asarray(np.ascontiguousarray(x), DTYPES[dtype]) for key, x in saved.items()}
    save_file(arrays, folder / WEIGHTS, metadata={"format": "pt"})
    is_dora = any(module.magnitude is not None for module in made.values())
    write_json(folder / CONFIG, _config(ranks, base, is_dora, bool(architecture.gguf_turned)))


def _config(ranks: dict[str, int], base: str, is_dora: bool, is_turned: bool) -> Json:
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: number for name, number in ranks.items() if number != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": is_turned,
        "use_dora": is_dora,
        "use_rslora": False,
        "init_lora_weights": True,
    }
