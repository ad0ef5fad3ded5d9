"""SLM with specialist text mixed into pretraining, on a laptop.

Reproduces: in kind, arXiv 2603.16177: 2% of the windows of the second half of the training are of
  the domain's specialist training set.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: results/README.md (variants of the study).
Command:
  specialm fetch
  specialm train --config=configs/local/slm_mixed.py --workdir=runs/local --config.domain=med
  specialm specialize --config=configs/local/slm_mixed.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM with specialist text mixed in, on a laptop"
    config.train.specialist_fraction = 0.02
    config.train.specialist_start = 0.5
    return config
