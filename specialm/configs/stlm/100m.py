"""STLM-100M, byte-pooled.

Reproduces: in kind, the byte-pooled model of "Super Tiny Language Models" (arXiv 2405.14159).
  Sizes are ours: 16 layers of width 768, MLPs of 1,984, 12 heads and 4 of keys and
  values.
Hardware: any mesh of TPU or GPU devices.
Time: not run by us at this size.
Expected: embedding and head take 1.9M parameters, those of the dense twin 38.6M.
Command:
  specialm train --config=configs/stlm/100m.py --workdir=runs/stlm \\
    --config.data.generic=parquet:fineweb_edu
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("50m.py")))["get_config"]()
    config.title = "STLM-100M, byte-pooled"
    config.model.num_layers = 16
    config.model.d_model = 768
    config.model.d_ff = 1984
    config.model.num_heads = 12
    config.train.tokens = 20_000_000_000
    return config
