"""Gemma 3, text alone (arXiv 2503.19786): local layers between global ones, each with a base of the
rotary positions of its own, norms before and after attention and MLP, GeGLU.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from specialm.models.config import Config
from specialm.models.parts.attention import local_layers
from specialm.serving.architectures import llama
from specialm.serving.architectures.record import Architecture, Json, View, refuse

WHO = "config.json (gemma3_text)"
LOCAL, GLOBAL = "sliding_attention", "full_attention"
PARTS: Json = {
    "norm": "rmsnorm_plus1",
    "post_norms": True,
    "qk_norm": True,
    "mlp": "geglu",
    "embedder": "scaled_tokens",
}
EVERY, GLOBAL_BASE, LOCAL_BASE, SCALAR = 6, 1e6, 1e4, 256  # transformers' defaults
LAYERS_27B = 62  # by them llama.cpp knows the model whose scores have another scale
NORMS = {  # ours -> (transformers', GGUF's)
    "norm1": ("input_layernorm", "attn_norm"),
    "post_norm1": ("post_attention_layernorm", "post_attention_norm"),
    "norm2": ("pre_feedforward_layernorm", "ffn_norm"),
    "post_norm2": ("post_feedforward_layernorm", "post_ffw_norm"),
}
GGUF_WINDOWS = {
    "sliding_window": "attention.sliding_window",
    "sliding_window_pattern": "attention.sliding_window_pattern",
    "rope_local_base_freq": "rope.freq_base_swa",
}
HEAD_NORMS = ("q_norm", "k_norm")


def _read(given: Json, vocab_size: int) -> Config:
    activation = given.get("hidden_activation", "gelu_pytorch_tanh")
    refuse(
        {
            f"hidden_activation={activation!r}": activation != "gelu_pytorch_tanh",
            "attn_logit_softcapping": bool(given.get("attn_logit_softcapping")),
            "final_logit_softcapping": bool(given.get("final_logit_softcapping")),
            "use_bidirectional_attention": bool(given.get("use_bidirectional_attention")),
        },
        WHO,
    )
    ropes = given.get("rope_parameters") or {}
    of_local = ropes.get(LOCAL) or {}
    refuse(
        {"scaled positions of local layers": of_local.get("rope_type", "default") != "default"}, WHO
    )
    as_llama = {
        "rope_theta": GLOBAL_BASE,
        "head_dim": SCALAR,
        "tie_word_embeddings": True,
        **given,
        "rope_parameters": ropes.get(GLOBAL) or {},
        "hidden_act": "silu",  # of llama's, which reads the sizes alone
        "sliding_window": None,
    }
    config = llama.read_type(as_llama, vocab_size, WHO)
    local_base = of_local.get("rope_theta") or given.get("rope_local_base_freq") or LOCAL_BASE
    scalar = given.get("query_pre_attn_scalar", SCALAR)
    return dataclasses.replace(
        config,
        **PARTS,
        **_windows(given, config.num_layers),
        local_rope_base=float(local_base),
        query_scalar=0 if scalar == config.size_of_head else scalar,
    )


def _windows(given: Json, layers: int) -> Json:
    """sliding_window and global_every, from the kinds of layers or how often they repeat."""
    every = given.get("sliding_window_pattern", given.get("_sliding_window_pattern", EVERY))
    kinds = given.get("layer_types") or [
        GLOBAL if isinstance(every, int) and every and y % every == 0 else LOCAL
        for y in range(1, layers + 1)
    ]
    if GLOBAL in kinds:
        every = kinds.index(GLOBAL) + 1
    elif not isinstance(every, int) or 0 < every <= layers:
        every = 0
    repeated = [LOCAL if not every or y % every else GLOBAL for y in range(1, layers + 1)]
    size = given.get("sliding_window")
    refuse(
        {
            f"layer_types={kinds}": kinds != repeated,
            f"sliding_window={size!r}": LOCAL in kinds and not (isinstance(size, int) and size > 0),
        },
        WHO,
    )
    return {"sliding_window": size, "global_every": every} if LOCAL in kinds else {}


def _write(config: Config, longest: int) -> Json:
    found = llama.write_type(config, longest)
    of_global = found.pop("rope_parameters")
    del found["hidden_act"], found["mlp_bias"]
    is_local_Y = local_layers(config)
    kinds = [GLOBAL] * config.num_layers
    if is_local_Y is not None:
        kinds = [LOCAL if is_local else GLOBAL for is_local in is_local_Y]
    return {
        **found,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": config.query_scalar or config.size_of_head,
        # Without local layers the size is not used, but transformers wants one.
        "sliding_window": config.sliding_window or longest,
        "sliding_window_pattern": config.global_every if config.sliding_window else 1,
        "layer_types": kinds,
        "rope_local_base_freq": config.local_rope_base,
        "rope_parameters": {
            GLOBAL: of_global,
            LOCAL: {"rope_type": "default", "rope_theta": config.local_rope_base},
        },
    }


def _views(params: Any, config: Config) -> Iterator[View]:
    for view in llama.views(params, config):
        if "layernorm" not in view.name:
            yield view
    layers = params["layers"]
    for y in range(config.num_layers):
        name = f"model.layers.{y}"
        for ours, (theirs, _) in NORMS.items():
            yield View(f"{name}.{theirs}.weight", (config.d_model,), layers[ours]["scale"][y])
        for norm in HEAD_NORMS:
            scale = layers["attention"][norm]["scale"][y]
            yield View(f"{name}.self_attn.{norm}.weight", (config.size_of_head,), scale)


def _to_gguf(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    """Its norms hold the scales themselves, 1 + w."""
    return tensor + 1 if name.endswith("norm.weight") else tensor


def _from_gguf(name: str, tensor: np.ndarray, config: Config) -> np.ndarray:
    return tensor - 1 if name.endswith("norm.weight") else tensor


def _gguf_scalar(layers: int, d_model: int, heads: int, size: int) -> int:
    """What llama.cpp divides scores by the root of, which the file does not say."""
    return d_model // heads if layers == LAYERS_27B else size


def _gguf_implies(given: Json) -> Json:
    layers, d_model, heads = (
        given.get(key) or 1 for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")
    )
    size = given.get("head_dim") or d_model // heads
    return {
        "head_dim": size,
        "query_pre_attn_scalar": _gguf_scalar(layers, d_model, heads, size),
        "sliding_window_pattern": EVERY if given.get("sliding_window") else 1,
    }


def _gguf_left_out(config: Config) -> tuple[str, ...]:
    return () if config.sliding_window else tuple(GGUF_WINDOWS)


def _gguf_obstacles(config: Config) -> tuple[str, ...]:
    size = config.size_of_head
    wanted = _gguf_scalar(config.num_layers, config.d_model, config.num_heads, size)
    return () if (config.query_scalar or size) == wanted else (f"model.query_scalar={wanted}",)


GEMMA3 = Architecture(
    "gemma3_text",
    "Gemma3ForCausalLM",
    _read,
    _write,
    {"positions": "rope", "biases": False, "causal": True, **PARTS},
    _views,
    {**llama.GGUF_KEYS, **GGUF_WINDOWS},
    {
        **{name: gguf for name, gguf in llama.GGUF_NAMES.items() if "layernorm" not in name},
        **{
            f"model.layers.{{y}}.{theirs}.weight": f"blk.{{y}}.{gguf}.weight"
            for theirs, gguf in NORMS.values()
        },
        **{
            f"model.layers.{{y}}.self_attn.{norm}.weight": f"blk.{{y}}.attn_{norm}.weight"
            for norm in HEAD_NORMS
        },
    },
    _to_gguf,
    _from_gguf,
    ignored=("rotary_emb.inv_freq",),
    gguf_type="gemma3",
    gguf_implies=_gguf_implies,
    gguf_left_out=_gguf_left_out,
    gguf_obstacles=_gguf_obstacles,
    free=("sliding_window", "query_scalar"),
)
