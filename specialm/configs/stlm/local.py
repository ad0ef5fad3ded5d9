"""STLM on a laptop, byte-pooled: configs/local/slm.py without vectors for its pieces.

Reproduces: in kind, the byte-pooled model of "Super Tiny Language Models" (arXiv 2405.14159) at the
  demo's size: 0.17M parameters, of which bytes take a fifth; the dense twin (local_dense.py) gives
  its vocabulary two fifths.
Hardware: two CPU cores, under 2 GB of memory.
Time: a few minutes, and 1 minute for preparing the data the first time.
Expected: behind its dense twin at this size, see docs/tiny.md.
Command:
  specialm fetch && specialm train --config=configs/stlm/local.py --workdir=runs/stlm
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("local_dense.py")))["get_config"]()
    config.title = "STLM on a laptop, byte-pooled"
    config.model.embedder, config.model.head = "bytes", "bytes_in_turn"
    config.model.byte_size, config.model.byte_heads = 16, 2
    config.model.d_ff = 416
    return config
