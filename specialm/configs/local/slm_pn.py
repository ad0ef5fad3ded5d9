"""SLM-pn on a laptop: a projected network of 8 small models.

Reproduces: in kind, the projected network of arXiv 2402.01093 at the demo's size: 0.17M parameters
  at inference, 0.6M in pretraining; 8 clusters, one small model for each, the MLPs of both
  layers in the bank. A domain's model is their mean by its cluster histogram.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm_pn` rows of results/README.md (configs/local/bank.py trains the same model).
Command:
  specialm fetch
  specialm train --config=configs/local/slm_pn.py --workdir=runs/local
  specialm specialize --config=configs/local/slm_pn.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("bank.py")))["get_config"]()
    config.title = "SLM-pn on a laptop"
    config.method = "slm_pn"
    return config
