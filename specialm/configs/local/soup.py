"""Soup-of-Experts on a laptop: weights mixed by a network of a histogram over the clusters.

Reproduces: in kind, arXiv 2502.01804 at the sizes of configs/local/slm_pn.py, with 8 random
  histograms a step instead of one (results/README.md says why).
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `soup` rows of results/README.md (configs/local/bank.py trains the same model).
Command:
  specialm fetch
  specialm train --config=configs/local/soup.py --workdir=runs/local
  specialm specialize --config=configs/local/soup.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("bank.py")))["get_config"]()
    config.title = "Soup-of-Experts on a laptop"
    config.method = "soup"
    return config
