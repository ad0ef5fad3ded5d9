"""STLM-10M, dense vocabulary: the twin of 10m.py with a vector for each piece.

Reproduces: in kind, the baseline of "Super Tiny Language Models" (arXiv 2405.14159);
  sizes are ours.
  The same pieces as the byte-pooled twin.
Hardware: any mesh of TPU or GPU devices.
Time: not run by us at this size.
Expected: 4.2M of its parameters are the vocabulary.
  It is exported as LlamaForCausalLM (`specialm export`).
Command:
  specialm train --config=configs/stlm/10m_dense.py --workdir=runs/stlm \\
    --config.data.generic=parquet:fineweb_edu
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("10m.py")))["get_config"]()
    config.title = "STLM-10M, dense vocabulary"
    config.model.embedder, config.model.head = "tokens", "tied"
    config.model.num_layers = 8
    return config
