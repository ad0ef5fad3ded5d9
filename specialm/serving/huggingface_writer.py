"""A model of ours in the Hugging Face layout, for AutoModelForCausalLM and AutoTokenizer."""

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from specialm.common.files import write_json
from specialm.data.vocabularies.tokenizer_json import CONFIG_FILE, FILE, TokenizerJson
from specialm.models.config import Config
from specialm.serving.architectures.record import Architecture, Json
from specialm.serving.huggingface import CONFIG, WEIGHTS

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}  # --dtype -> of all tensors


def write(
    folder: Path,
    architecture: Architecture,
    config: Config,
    longest: int,
    params: Any,
    vocabulary: TokenizerJson,
    dtype: str,
) -> None:
    """Writes config.json, model.safetensors, the tokenizer and generation_config.json.

    Args:
      longest: tokens of the longest window that it is said to read.
      params: ours, NumPy arrays.
      dtype: of DTYPES.
    """
    from safetensors.flax import save_file

    roles = _roles(vocabulary)
    write_json(
        folder / CONFIG,
        {
            "architectures": [architecture.model_class],
            "model_type": architecture.model_type,
            **architecture.write(config, longest),
            **roles,
            "dtype": DTYPES[dtype],
            "use_cache": True,
        },
    )
    write_json(folder / "generation_config.json", {**roles, "do_sample": False})
    tensors = {
        view.name: jnp.asarray(view.read(), DTYPES[dtype])
        for view in architecture.views(params, config)
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(vocabulary.path, folder / FILE)
    write_json(folder / CONFIG_FILE, {**vocabulary.config, **_names(vocabulary, longest)})


def _roles(vocabulary: TokenizerJson) -> Json:
    bos, stops = vocabulary.id_of("bos_token"), sorted(vocabulary.stops)
    return {
        "bos_token_id": vocabulary.start if bos is None else bos,
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
    }


def _names(vocabulary: TokenizerJson, longest: int) -> Json:
    """What AutoTokenizer reads so that it does no more than tokenizer.json says."""
    found: Json = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest}
    for role, i in (("bos_token", vocabulary.start), ("eos_token", vocabulary.eos)):
        if vocabulary.id_of(role) is None:
            found[role] = vocabulary.names[i]
    return found
