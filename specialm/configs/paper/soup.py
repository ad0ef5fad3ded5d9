"""Soup-of-Experts: shared weights and a bank, mixed by a network of a histogram over clusters.

Reproduces: the method of arXiv 2502.01804 in the frame of configs/paper/slm_pn.py (same small
  model, 5 of 7 layers in the bank, 32 clusters); each step trains one model on a random histogram.
Hardware: as configs/paper/slm_pn.py.
Time: as configs/paper/slm_pn.py.
Expected: nothing is published for these sizes. Not run by us: it needs c4.
Command:
  specialm train --config=configs/paper/soup.py --workdir=runs/paper \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
  specialm specialize --config=configs/paper/soup.py --workdir=runs/paper --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm_pn.py")))["get_config"]()
    config.title = "Soup-of-Experts at the size of the small model"
    config.method = "soup"
    config.train.groups = 1  # one model for the whole batch, as published
    return config
