"""Banks and the mixture against the small model: every family over three domains.

Reproduces: in kind, the comparison of SLM, SLM-mix and SLM-pn of arXiv 2402.01093 at one budget of
  generic tokens, with the hyper-network of its version 1 and the Soup-of-Experts of 2502.01804,
  at the demo's size: 0.17M parameters at inference, 8M tokens.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 10 minutes for each seed.
Expected: results/README.md: every family below SLM in macro-averaged perplexity after fine-tuning,
  SLM-pn by 5.9% (2.8 between seeds), the soup by 4.9%, SLM-mix by 1.7%.
Command:
  specialm demo --config=configs/local/bank.py --workdir=runs/bank
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("gpt2.py")))["get_config"]()
    config.title = "Banks and mixtures of small models on three domains"
    config.methods = ("slm", "slm_mix", "slm_pn", "slm_hn", "soup")
    config.model.num_experts = 8
    config.expert.choice = "soup"
    config.data.specialist_tokens = 10_000
    config.train.tokens = 8_000_000
    config.train.batch_size = 32
    config.train.decay_fraction = 0.5
    config.train.trunk_fraction = 0.75
    config.finetune.learning_rate = 4e-3 / 3
    return config
