"""Llama-type parts against transformers' LlamaForCausalLM and Qwen3ForCausalLM on the same random
parameters (extra `bench`).
"""

import dataclasses

import jax
import numpy as np
import pytest

from specialm.models import transformer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LLAMA = transformer.Config(
    vocab_size=211,
    context=64,
    num_layers=3,
    d_model=48,
    num_heads=6,
    d_ff=80,
    norm="rmsnorm",
    positions="rope",
    rope_base=500.0,
    mlp="swiglu",
    num_kv_heads=2,
    biases=False,
    head="untied",
)
CASES = {
    "llama": (LLAMA, "LlamaForCausalLM", "LlamaConfig"),
    "tied, every head its own keys": (
        dataclasses.replace(LLAMA, head="tied", num_kv_heads=0),
        "LlamaForCausalLM",
        "LlamaConfig",
    ),
    "qwen3": (
        dataclasses.replace(LLAMA, qk_norm=True, head_size=16, norm_epsilon=1e-6),
        "Qwen3ForCausalLM",
        "Qwen3Config",
    ),
}


def state_dict(params, config):
    """Our parameters under the names of the Hugging Face layout, [outputs, inputs] each."""
    state = {"model.embed_tokens.weight": params["embed"]["tokens"]}
    last = params["heads"]["last"]
    state["model.norm.weight"] = last["norm"]["scale"]
    state["lm_head.weight"] = last.get("out", params["embed"]["tokens"])
    for y in range(config.num_layers):
        layer, name = jax.tree.map(lambda leaf, y=y: leaf[y], params["layers"]), f"model.layers.{y}"
        qkv, d = layer["attention"]["qkv"], config.d_model  # [D, q + 2, J, A]
        q = qkv[:, :-2].swapaxes(1, 2).reshape(d, -1)
        attention = {"q": q, "k": qkv[:, -2].reshape(d, -1), "v": qkv[:, -1].reshape(d, -1)}
        for part, weight in attention.items():
            state[f"{name}.self_attn.{part}_proj.weight"] = weight.T
        state[f"{name}.self_attn.o_proj.weight"] = layer["attention"]["out"].reshape(-1, d).T
        for part in ("q_norm", "k_norm") if config.qk_norm else ():
            state[f"{name}.self_attn.{part}.weight"] = layer["attention"][part]["scale"]
        state[f"{name}.mlp.gate_proj.weight"] = layer["mlp"]["up"][:, 0].T
        state[f"{name}.mlp.up_proj.weight"] = layer["mlp"]["up"][:, 1].T
        state[f"{name}.mlp.down_proj.weight"] = layer["mlp"]["down"].T
        state[f"{name}.input_layernorm.weight"] = layer["norm1"]["scale"]
        state[f"{name}.post_attention_layernorm.weight"] = layer["norm2"]["scale"]
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(name):
    config, model_name, config_name = CASES[name]
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32),
        transformer.init(config, jax.random.key(0)),
    )
    theirs = getattr(transformers, model_name)(
        getattr(transformers, config_name)(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            intermediate_size=config.d_ff,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.size_of_head,
            max_position_embeddings=config.context,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            tie_word_embeddings=config.head == "tied",
            attn_implementation="eager",
        )
    ).eval()
    theirs.load_state_dict(state_dict(params, config), strict=True)
    tokens = rng.integers(0, config.vocab_size, (3, 64))
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(tokens)).logits.numpy()
    found = np.asarray(transformer.logits(params, tokens, config))
    assert np.abs(wanted).max() > 1
    difference = np.abs(found - wanted).max()
    print(f"{name}: largest difference of logits {difference:.2e}")
    assert difference < 1e-4
