"""SLM on a laptop that leaves for other programs: Llama's parts and byte-level BPE.

Reproduces: in kind, the SLM baseline of arXiv 2402.01093 at the demo's size (0.17M parameters, 4M
  tokens, vocabulary 1,024, context 128), with the architecture of LlamaForCausalLM.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: with a SentencePiece vocabulary `llama` in results/architecture: 2.701 bits per byte on
  validation text. With byte-level BPE it was not run.
Command:
  specialm fetch && specialm train --config=configs/local/llama.py --workdir=runs/llama
  specialm export --checkpoint=runs/llama --to=exported/slm --format=gguf
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM with Llama's parts"
    config.data.vocabulary_kind = "bpe"
    config.model.norm, config.model.mlp, config.model.biases = "rmsnorm", "swiglu", False
    config.model.d_ff = 192
    config.train.learning_rate = 4e-3
    config.finetune.learning_rate = 0.0
    return config
