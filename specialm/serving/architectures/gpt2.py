"""GPT-2 (Radford et al. 2019)."""

from collections.abc import Iterator
from typing import Any

from specialm.models.config import Config
from specialm.serving.architectures.record import Architecture, Json, View, refuse, sizes

WHO = "config.json (gpt2)"
SIZES = {
    "context": "n_positions",
    "num_layers": "n_layer",
    "d_model": "n_embd",
    "num_heads": "n_head",
}
PARTS: Json = {"norm": "layernorm", "positions": "learned", "mlp": "gelu", "biases": True}
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")  # the same function under two names


def _read(given: Json, vocab_size: int) -> Config:
    activation = given.get("activation_function", "gelu_new")
    refuse(
        {
            f"activation_function={activation!r}": activation not in ACTIVATIONS,
            "scale_attn_weights=False": not given.get("scale_attn_weights", True),
            "scale_attn_by_inverse_layer_idx": bool(given.get("scale_attn_by_inverse_layer_idx")),
            "add_cross_attention": bool(given.get("add_cross_attention")),
            "quantization_config": bool(given.get("quantization_config")),
        },
        WHO,
    )
    found = sizes(given, SIZES, WHO)
    return Config(
        vocab_size=vocab_size,
        **found,
        **PARTS,
        d_ff=given.get("n_inner") or 4 * found["d_model"],
        norm_epsilon=float(given.get("layer_norm_epsilon", 1e-5)),
        head="tied" if given.get("tie_word_embeddings", True) else "untied",
    )


def _write(config: Config, longest: int) -> Json:
    return {
        "vocab_size": config.vocab_size,
        "n_positions": longest,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.d_ff,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_epsilon,
        "tie_word_embeddings": config.head == "tied",
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _views(params: Any, config: Config) -> Iterator[View]:
    """Every tensor; linear maps are [inputs, outputs] there, as here."""
    d, f, v = config.d_model, config.d_ff, config.vocab_size
    yield View("transformer.wte.weight", (v, d), params["embed"]["tokens"])
    yield View("transformer.wpe.weight", (config.context, d), params["position"]["table"])
    last = params["heads"]["last"]
    yield from _norm("transformer.ln_f", last["norm"], d)
    if "out" in last:
        yield View("lm_head.weight", (v, d), last["out"])
    layers = params["layers"]
    attention, mlp = layers["attention"], layers["mlp"]
    for y in range(config.num_layers):
        name = f"transformer.h.{y}"
        of_layer = {norm: {k: w[y] for k, w in layers[norm].items()} for norm in ("norm1", "norm2")}
        yield from _norm(f"{name}.ln_1", of_layer["norm1"], d)
        yield View(f"{name}.attn.c_attn.weight", (d, 3 * d), attention["qkv"][y])
        yield View(f"{name}.attn.c_attn.bias", (3 * d,), attention["qkv_bias"][y])
        yield View(f"{name}.attn.c_proj.weight", (d, d), attention["out"][y])
        yield View(f"{name}.attn.c_proj.bias", (d,), attention["out_bias"][y])
        yield from _norm(f"{name}.ln_2", of_layer["norm2"], d)
        yield View(f"{name}.mlp.c_fc.weight", (d, f), mlp["up"][y])
        yield View(f"{name}.mlp.c_fc.bias", (f,), mlp["up_bias"][y])
        yield View(f"{name}.mlp.c_proj.weight", (f, d), mlp["down"][y])
        yield View(f"{name}.mlp.c_proj.bias", (d,), mlp["down_bias"][y])


def _norm(name: str, weights: dict, d: int) -> Iterator[View]:
    yield View(f"{name}.weight", (d,), weights["scale"])
    yield View(f"{name}.bias", (d,), weights["bias"])


GGUF_LINEAR = {
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
GGUF_LAYER = {**GGUF_LINEAR, "ln_1": "attn_norm", "ln_2": "ffn_norm"}


GPT2 = Architecture(
    "gpt2",
    "GPT2LMHeadModel",
    _read,
    _write,
    {**PARTS, "causal": True, "num_kv_heads": 0, "head_size": 0},
    _views,
    {
        "n_positions": "context_length",
        "n_embd": "embedding_length",
        "n_layer": "block_count",
        "n_inner": "feed_forward_length",
        "n_head": "attention.head_count",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
    {
        "transformer.wte.weight": "token_embd.weight",
        "transformer.wpe.weight": "position_embd.weight",
        "transformer.ln_f.weight": "output_norm.weight",
        "transformer.ln_f.bias": "output_norm.bias",
        "lm_head.weight": "output.weight",
        **{
            f"transformer.h.{{y}}.{theirs}.{kind}": f"blk.{{y}}.{gguf}.{kind}"
            for theirs, gguf in GGUF_LAYER.items()
            for kind in ("weight", "bias")
        },
    },
    gguf_turned=tuple(f"{name}.weight" for name in GGUF_LINEAR),
    ignored=(".attn.bias", ".attn.masked_bias"),
    prefix="transformer.",
)
