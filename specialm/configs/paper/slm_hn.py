"""SLM-hn: a hyper-network; the coefficients of the bank come from a cluster's centroid.

Reproduces: the method that version 1 of arXiv 2402.01093 names; our reading of it (see
  specialm/models/bank.py), at the sizes of configs/paper/slm_pn.py.
Hardware: as configs/paper/slm_pn.py.
Time: as configs/paper/slm_pn.py.
Expected: nothing is published for these sizes. Not run by us: it needs c4.
Command:
  specialm train --config=configs/paper/slm_hn.py --workdir=runs/paper \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
  specialm specialize --config=configs/paper/slm_hn.py --workdir=runs/paper --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm_pn.py")))["get_config"]()
    config.title = "SLM-hn at the published size"
    config.method = "slm_hn"
    return config
