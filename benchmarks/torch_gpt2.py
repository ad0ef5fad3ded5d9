"""The other side of `benchmarks.step`: GPT-2 of Hugging Face transformers, trained by PyTorch.

A worker process (it needs only NumPy, PyTorch and transformers), driven line by line:

    python benchmarks/torch_gpt2.py SIZE.json PARAMS.npz

It takes one training step, answers {"loss", "threads"}; for each line it reads from standard input
it takes that many steps and answers {"seconds"}. float32, scaled-dot-product attention, the
model's own cross-entropy, no dropout, clipping, AdamW (fused where this build has it).
"""

import json
import sys
import time

import numpy as np
import torch
import transformers


def build(size: dict) -> transformers.GPT2LMHeadModel:
    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=size["vocab_size"],
        n_positions=size["context"],
        n_layer=size["num_layers"],
        n_embd=size["d_model"],
        n_head=size["num_heads"],
        n_inner=size["d_ff"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    return transformers.GPT2LMHeadModel(config).train()


def load(model: transformers.GPT2LMHeadModel, path: str) -> None:
    """Takes over our parameters: both sides compute the same losses from the same numbers."""
    ours = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    names = {
        "norm1.scale": "ln_1.weight",
        "norm1.bias": "ln_1.bias",
        "attention.qkv": "attn.c_attn.weight",
        "attention.qkv_bias": "attn.c_attn.bias",
        "attention.out": "attn.c_proj.weight",
        "attention.out_bias": "attn.c_proj.bias",
        "norm2.scale": "ln_2.weight",
        "norm2.bias": "ln_2.bias",
        "mlp.up": "mlp.c_fc.weight",
        "mlp.up_bias": "mlp.c_fc.bias",
        "mlp.down": "mlp.c_proj.weight",
        "mlp.down_bias": "mlp.c_proj.bias",
    }
    state = {
        "wte.weight": ours["embed.tokens"],
        "wpe.weight": ours["position.table"],
        "ln_f.weight": ours["heads.last.norm.scale"],
        "ln_f.bias": ours["heads.last.norm.bias"],
    }
    shapes = {name: value.shape for name, value in model.transformer.state_dict().items()}
    for layer in range(model.config.n_layer):
        for name, theirs in names.items():
            key = f"h.{layer}.{theirs}"
            state[key] = ours[f"layers.{name}"][layer].reshape(shapes[key])
    model.transformer.load_state_dict(state)


def optimizer_of(model, size: dict) -> torch.optim.Optimizer:
    settings = {
        "lr": size["learning_rate"],
        "betas": (size["beta1"], size["beta2"]),
        "weight_decay": size["weight_decay"],
    }
    try:
        return torch.optim.AdamW(model.parameters(), fused=True, **settings)
    except RuntimeError:
        return torch.optim.AdamW(model.parameters(), **settings)


def main() -> None:
    with open(sys.argv[1]) as file:
        size = json.load(file)
    model = build(size)
    load(model, sys.argv[2])
    optimizer = optimizer_of(model, size)
    rng = np.random.default_rng(0)

    def step() -> torch.Tensor:
        tokens = rng.integers(0, size["vocab_size"], (size["windows"], size["context"] + 1))
        inputs, targets = (
            torch.from_numpy(part).contiguous() for part in (tokens[:, :-1], tokens[:, 1:])
        )
        optimizer.zero_grad(set_to_none=True)
        # shift_labels: the targets as they are, so that both sides predict every token.
        loss = model(input_ids=inputs, labels=targets, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), size["clip_norm"])
        optimizer.step()
        return loss.detach()

    print(
        json.dumps(
            {
                "loss": float(step()),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
        ),
        flush=True,
    )
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        float(loss)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
