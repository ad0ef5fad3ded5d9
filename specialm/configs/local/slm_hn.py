"""SLM-hn on a laptop: the coefficients of the bank come from a cluster's centroid.

Reproduces: in kind, the hyper-network that version 1 of arXiv 2402.01093 names (our reading:
  specialm/models/bank.py), at the sizes of configs/local/slm_pn.py.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm_hn` rows of results/README.md (configs/local/bank.py trains the same model).
Command:
  specialm fetch
  specialm train --config=configs/local/slm_hn.py --workdir=runs/local
  specialm specialize --config=configs/local/slm_hn.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("bank.py")))["get_config"]()
    config.title = "SLM-hn on a laptop"
    config.method = "slm_hn"
    return config
