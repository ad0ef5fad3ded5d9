"""STLM on a laptop, dense vocabulary: configs/local/slm.py with pieces of at most 12 bytes.

Reproduces: in kind, the baseline of "Super Tiny Language Models" (arXiv 2405.14159) at the demo's
  size; the twin of local.py, on the same pieces.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: ahead of its byte-pooled twin at this size, see docs/tiny.md.
Command:
  specialm fetch && specialm train --config=configs/stlm/local_dense.py --workdir=runs/stlm
"""

import runpy
from pathlib import Path


def get_config():
    local = Path(__file__).parents[1] / "local" / "slm.py"
    config = runpy.run_path(str(local))["get_config"]()
    config.title = "STLM on a laptop, dense vocabulary"
    config.data.longest_piece = 12
    return config
