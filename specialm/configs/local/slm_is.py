"""SLM-is on a laptop: a small model pretrained on generic text resampled for one domain.

Reproduces: in kind, importance sampling of arXiv 2402.01093 at the demo's size: 256 clusters of
  TF-IDF + SVD vectors (set clustering.encoder=minilm for the paper's kind of encoder).
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm_is` rows of results/README.md (the demo trains the same model).
Command:
  specialm fetch
  specialm train --config=configs/local/slm_is.py --workdir=runs/local --config.domain=med
  specialm specialize --config=configs/local/slm_is.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM-is on a laptop"
    config.method = "slm_is"
    return config
