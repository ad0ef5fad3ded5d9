"""The other side of `benchmarks.open_step`: Llama of Hugging Face transformers, in PyTorch.

    python benchmarks/torch_llama.py DTYPE FOLDER eager|compiled

It needs only NumPy, PyTorch and transformers. FOLDER has the model, batch.npz and optimizer.json.
It takes one training step and answers {"loss", ...}; for each line of standard input it takes so
many more and answers {"seconds", "peak_bytes"}. Scaled-dot-product attention, the model's own
cross-entropy, clipping, AdamW (fused where this build has it).
"""

import contextlib
import json
import resource
import sys
import time

import numpy as np
import torch
import transformers


def main() -> None:
    dtype, folder, way = sys.argv[1:]
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="sdpa", dtype=torch.float32
    ).train()
    model.config.use_cache = False
    with open(f"{folder}/optimizer.json") as file:
        given = json.load(file)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=given["learning_rate"],
        betas=(given["beta1"], given["beta2"]),
        weight_decay=given["weight_decay"],
        fused=True,
    )
    forward = torch.compile(model) if way == "compiled" else model
    batch = np.load(f"{folder}/batch.npz")
    inputs, targets = (torch.from_numpy(batch[name]).long() for name in ("inputs", "targets"))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        narrow = torch.autocast("cpu", torch.bfloat16)
        with narrow if dtype == "bfloat16" else contextlib.nullcontext():
            loss = forward(input_ids=inputs, labels=targets, shift_labels=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), given["clip_norm"])
        optimizer.step()
        return float(loss.detach())

    about = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"loss": step(), **about}), flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            step()
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
