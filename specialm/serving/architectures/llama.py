"""Llama-type models (Touvron et al., arXiv 2302.13971; grouped queries: arXiv 2307.09288), SmolLM2
among them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from specialm.models.config import Config
from specialm.serving.architectures.record import Architecture, Json, View, refuse, sizes

WHO = "config.json (llama)"
SIZES = {
    "context": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "num_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
}
PARTS: Json = {"norm": "rmsnorm", "positions": "rope", "mlp": "swiglu", "biases": False}
COMMON: Json = {"causal": True}


def rope(given: Json, who: str) -> Json:
    """rope_base and rope_factor, from either place in which transformers has written them."""
    now = given.get("rope_parameters") or {}
    before = given.get("rope_scaling") or {}
    kind = now.get("rope_type") or before.get("rope_type") or before.get("type") or "default"
    refuse(
        {
            f"rope_type={kind!r}": kind not in ("default", "linear"),
            "partial_rotary_factor": (
                now.get("partial_rotary_factor", given.get("partial_rotary_factor")) or 1
            )
            != 1,
        },
        who,
    )
    base = now.get("rope_theta") or given.get("rope_theta") or 10_000.0
    factor = now.get("factor") or before.get("factor") or 1.0
    return {"rope_base": float(base), "rope_factor": float(factor) if kind == "linear" else 1.0}


def read_type(given: Json, vocab_size: int, who: str, **more: Any) -> Config:
    """Our sizes from the config.json of any Llama-type model."""
    activation = given.get("hidden_act", "silu")
    refuse(
        {
            f"hidden_act={activation!r}": activation != "silu",
            "attention_bias": bool(given.get("attention_bias")),
            "mlp_bias": bool(given.get("mlp_bias")),
            "sliding_window": bool(given.get("sliding_window"))
            and given.get("use_sliding_window", True),
            "quantization_config": bool(given.get("quantization_config")),
        },
        who,
    )
    found = sizes(given, SIZES, who)
    heads, size = found["num_heads"], given.get("head_dim") or 0
    given_heads = given.get("num_key_value_heads") or heads
    return Config(
        vocab_size=vocab_size,
        **found,
        **PARTS,
        **rope(given, who),
        norm_epsilon=float(given.get("rms_norm_eps", 1e-6)),
        num_kv_heads=0 if given_heads == heads else given_heads,
        head_size=0 if size * heads == found["d_model"] else size,
        head="tied" if given.get("tie_word_embeddings", False) else "untied",
        **more,
    )


def _read(given: Json, vocab_size: int) -> Config:
    return read_type(given, vocab_size, WHO)


def write_type(config: Config, longest: int) -> Json:
    """The config.json of any Llama-type model."""
    scaled = config.rope_factor != 1
    scaling = {"rope_type": "linear", "factor": config.rope_factor} if scaled else None
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.size_of_head,
        "max_position_embeddings": longest,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        # transformers 5 reads the first, 4 the others.
        "rope_parameters": {
            "rope_theta": config.rope_base,
            **(scaling or {"rope_type": "default"}),
        },
        "rope_theta": config.rope_base,
        "rope_scaling": scaling,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.head == "tied",
    }


def views(params: Any, config: Config) -> Iterator[View]:
    """Every tensor; linear maps are [outputs, inputs] there."""
    d, f, a = config.d_model, config.d_ff, config.size_of_head
    h, j, v = config.num_heads, config.kv_heads, config.vocab_size
    yield View("model.embed_tokens.weight", (v, d), params["embed"]["tokens"])
    last = params["heads"]["last"]
    yield View("model.norm.weight", (d,), last["norm"]["scale"])
    if "out" in last:
        yield View("lm_head.weight", (v, d), last["out"])
    layers = params["layers"]
    attention, mlp = layers["attention"], layers["mlp"]
    for y in range(config.num_layers):
        name, qkv = f"model.layers.{y}", attention["qkv"][y]  # [D, q + 2, J, A]
        # Query head n is the n mod q-th of group n // q.
        yield View(f"{name}.self_attn.q_proj.weight", (h * a, d), qkv[:, :-2].transpose(2, 1, 3, 0))
        yield View(f"{name}.self_attn.k_proj.weight", (j * a, d), qkv[:, -2].transpose(1, 2, 0))
        yield View(f"{name}.self_attn.v_proj.weight", (j * a, d), qkv[:, -1].transpose(1, 2, 0))
        out_DxHxA = attention["out"][y].transpose(2, 0, 1)
        yield View(f"{name}.self_attn.o_proj.weight", (d, h * a), out_DxHxA)
        yield View(f"{name}.mlp.gate_proj.weight", (f, d), mlp["up"][y, :, 0].T)
        yield View(f"{name}.mlp.up_proj.weight", (f, d), mlp["up"][y, :, 1].T)
        yield View(f"{name}.mlp.down_proj.weight", (d, f), mlp["down"][y].T)
        yield View(f"{name}.input_layernorm.weight", (d,), layers["norm1"]["scale"][y])
        yield View(f"{name}.post_attention_layernorm.weight", (d,), layers["norm2"]["scale"][y])


GGUF_KEYS = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
    "head_dim": "attention.key_length",
}
GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "model.layers.{y}.self_attn.q_proj.weight": "blk.{y}.attn_q.weight",
    "model.layers.{y}.self_attn.k_proj.weight": "blk.{y}.attn_k.weight",
    "model.layers.{y}.self_attn.v_proj.weight": "blk.{y}.attn_v.weight",
    "model.layers.{y}.self_attn.o_proj.weight": "blk.{y}.attn_output.weight",
    "model.layers.{y}.mlp.gate_proj.weight": "blk.{y}.ffn_gate.weight",
    "model.layers.{y}.mlp.up_proj.weight": "blk.{y}.ffn_up.weight",
    "model.layers.{y}.mlp.down_proj.weight": "blk.{y}.ffn_down.weight",
    "model.layers.{y}.input_layernorm.weight": "blk.{y}.attn_norm.weight",
    "model.layers.{y}.post_attention_layernorm.weight": "blk.{y}.ffn_norm.weight",
}


def _heads(name: str, config: Config) -> int:
    """Heads whose rows GGUF orders otherwise; 0 for all other tensors."""
    if name.endswith("q_proj.weight"):
        return config.num_heads
    return config.kv_heads if name.endswith("k_proj.weight") else 0


def to_gguf(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    """Rows of queries and keys with the two numbers of a rotated pair side by side."""
    heads = _heads(name, config)
    if not heads:
        return tensor
    halves = tensor.reshape(heads, 2, -1, tensor.shape[-1])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def from_gguf(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    """Rows of queries and keys in two halves again."""
    heads = _heads(name, config)
    if not heads:
        return tensor
    pairs = tensor.reshape(heads, -1, 2, tensor.shape[-1])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


LLAMA = Architecture(
    "llama",
    "LlamaForCausalLM",
    _read,
    write_type,
    {**PARTS, **COMMON},
    views,
    GGUF_KEYS,
    GGUF_NAMES,
    to_gguf,
    from_gguf,
    ignored=("rotary_emb.inv_freq",),
)
