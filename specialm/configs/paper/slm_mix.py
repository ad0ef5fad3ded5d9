"""SLM-mix: a hard mixture, an independent small model for each of 16 clusters.

Reproduces: arXiv 2402.01093: sizes and optimiser of configs/paper/slm.py for every expert: 504M /
  2,016M / 8,064M / 32,256M parameters for 4 / 16 / 64 / 256 experts, 126M at inference.
  `--config.model.only_expert=3` trains a single expert, with the same result.
Hardware: published on 16 A100 (2.2 GPU hours per 1B tokens).
Time: published limit 650 GPU hours (928k steps of about 98k tokens at 200 GPU hours).
Expected: published macro-averaged perplexity after fine-tuning with 1M / 8M / 64M specialist
  tokens 17.56 / 14.42 / 11.84 at 400 GPU hours. Not run by us: it needs c4.
Command:
  specialm train --config=configs/paper/slm_mix.py --workdir=runs/paper \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
  specialm specialize --config=configs/paper/slm_mix.py --workdir=runs/paper --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM-mix at the published size"
    config.method = "slm_mix"
    config.model.num_experts = 16
    config.train.tokens = 98_000_000_000
    config.train.batch_size = 96
    return config
