"""SLM-nopt on a laptop: the small model trained on the specialist text only.

Reproduces: in kind, the SLM-nopt baseline of arXiv 2402.01093.
Hardware: two CPU cores, under 2 GB of memory.
Time: under a minute, and 1 minute for preparing the data the first time.
Expected: far worse than everything that was pretrained (results/README.md, the study).
Command:
  specialm fetch
  specialm specialize --config=configs/local/slm_nopt.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM-nopt on a laptop"
    config.method = "slm_nopt"
    config.finetune.learning_rate = 2e-3
    return config
