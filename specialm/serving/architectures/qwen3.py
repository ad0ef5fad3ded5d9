"""Qwen3 (arXiv 2505.09388): Llama-type, with an RMSNorm of each head's queries and keys."""

from collections.abc import Iterator
from typing import Any

from specialm.models.config import Config
from specialm.serving.architectures import llama
from specialm.serving.architectures.record import Architecture, Json, View

WHO = "config.json (qwen3)"
NORMS = ("q_norm", "k_norm")


def _read(given: Json, vocab_size: int) -> Config:
    # transformers' default of Qwen3, not D / H.
    return llama.read_type({"head_dim": 128, **given}, vocab_size, WHO, qk_norm=True)


def _write(config: Config, longest: int) -> Json:
    return {**llama.write_type(config, longest), "use_sliding_window": False}


def _views(params: Any, config: Config) -> Iterator[View]:
    yield from llama.views(params, config)
    for y in range(config.num_layers):
        for norm in NORMS:
            scale = params["layers"]["attention"][norm]["scale"][y]
            name = f"model.layers.{y}.self_attn.{norm}.weight"
            yield View(name, (config.size_of_head,), scale)


QWEN3 = Architecture(
    "qwen3",
    "Qwen3ForCausalLM",
    _read,
    _write,
    {**llama.PARTS, **llama.COMMON, "qk_norm": True},
    _views,
    llama.GGUF_KEYS,
    {
        **llama.GGUF_NAMES,
        **{
            f"model.layers.{{y}}.self_attn.{norm}.weight": f"blk.{{y}}.attn_{norm}.weight"
            for norm in NORMS
        },
    },
)
