"""STLM on a laptop, byte-pooled: configs/local/slm.py without a table of vectors.

Reproduces: in kind, the byte-pooled model of "Super Tiny Language Models" (arXiv 2405.14159) at the
  demo's size: 0.18M parameters, of which the vocabulary takes a sixth; the dense twin
  (local_dense.py) gives it two fifths. In the form that does best here: a piece is the mean of its
  bytes and 16 numbers of its own, and the head reads the same vectors; as published, with a head
  that predicts the bytes: --config.model.head=bytes --config.model.embed_rank=0
  --config.model.byte_layers=1.
Hardware: two CPU cores, under 2 GB of memory.
Time: a few minutes, and 1 minute for preparing the data the first time.
Expected: behind its dense twin at this size, see results/README.md, "Tiny models".
Command:
  specialm fetch && specialm train --config=configs/stlm/local.py --workdir=runs/stlm
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("local_dense.py")))["get_config"]()
    config.title = "STLM on a laptop, byte-pooled"
    config.model.embedder = "bytes"
    config.model.byte_size, config.model.byte_heads = 32, 4
    config.model.byte_layers, config.model.embed_rank = 0, 16
    config.model.d_ff = 440
    return config
