"""SLM-pn: a projected network, one small model for each of 32 clusters in one set of parameters.

Reproduces: arXiv 2402.01093: sizes and optimiser of configs/paper/slm.py; the MLPs of 5 of the 7
  layers in a bank with h = m = k (the published counts fit that: 756M / 1,422M / 2,770M for 16 /
  32 / 64 experts; which five is not published, the last five are our reading); 126M at inference.
  `--config.model.num_experts=16` changes k, and h and m with it.
Hardware: published on 8 A100 (3.6 GPU hours per 1B tokens).
Time: published limit 650 GPU hours (390k steps of about 142k tokens at 200 GPU hours).
Expected: published macro-averaged perplexity after fine-tuning with 1M / 8M / 64M specialist
  tokens 17.17 / 14.48 / 11.86 (SLM 18.22 / 14.80 / 12.00), at 400 GPU hours. Not run by us: it
  needs c4.
Command:
  specialm train --config=configs/paper/slm_pn.py --workdir=runs/paper \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
  specialm compile --config=configs/paper/slm_pn.py --topology=v5e:16x16
  specialm specialize --config=configs/paper/slm_pn.py --workdir=runs/paper --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM-pn at the published size"
    config.method = "slm_pn"
    config.model.num_experts = 32
    config.model.bank_layers = (2, 3, 4, 5, 6)
    config.train.tokens = 111_000_000_000
    config.train.batch_size = 144
    config.train.groups = 16
    return config
