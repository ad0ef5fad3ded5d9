"""STLM-10M, byte-pooled.

Reproduces: in kind, the byte-pooled model of "Super Tiny Language Models" (arXiv 2405.14159).
  Sizes are ours: 13 layers of width 256, MLPs of 704, 8 heads and 4 of keys and
  values, blocks of width 64 over bytes, 16,384 pieces.
Hardware: any mesh of TPU or GPU devices.
Time: not run by us at this size.
Expected: embedding and head take 0.4M parameters, those of the dense twin 4.2M.
Command:
  specialm train --config=configs/stlm/10m.py --workdir=runs/stlm \\
    --config.data.generic=parquet:fineweb_edu
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("50m.py")))["get_config"]()
    config.title = "STLM-10M, byte-pooled"
    config.data.vocabulary_size = 16_384
    config.model.num_layers = 13
    config.model.d_model = 256
    config.model.d_ff = 704
    config.model.num_heads = 8
    config.model.byte_size = 64
    config.train.tokens = 2_000_000_000
    return config
