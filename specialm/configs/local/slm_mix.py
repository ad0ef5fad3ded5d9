"""SLM-mix on a laptop: a hard mixture of 8 small models that start from one.

Reproduces: in kind, the hard mixture of arXiv 2402.01093 at the demo's size: 8 models of 0.17M
  parameters. At these budgets independent models from scratch see too few tokens each
  (results/README.md), so 3/4 of the budget go into the dense model that all start from; set
  `--config.train.trunk_fraction=0` for the published mixture, `--config.model.only_expert=3` for
  a single expert.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm_mix` rows of results/README.md (configs/local/bank.py trains the same model).
Command:
  specialm fetch
  specialm train --config=configs/local/slm_mix.py --workdir=runs/local
  specialm specialize --config=configs/local/slm_mix.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("bank.py")))["get_config"]()
    config.title = "SLM-mix on a laptop"
    config.method = "slm_mix"
    return config
