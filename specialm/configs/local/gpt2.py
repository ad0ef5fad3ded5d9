"""SLM on a laptop with GPT-2's parts: what the committed bank, encoder and study results are of.

Reproduces: in kind, the SLM baseline of arXiv 2402.01093 with its learned positions, and importance
  sampling as published, without a cap on repetitions, at the demo's size (0.17M parameters, 4M
  tokens, vocabulary 1,024, context 128).
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: `gpt2` in results/architecture: 0.2 bits per byte more than configs/local/slm.py on
  validation text.
Command:
  specialm fetch && specialm train --config=configs/local/gpt2.py --workdir=runs/gpt2
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM with GPT-2's parts"
    config.clustering.max_repetitions = 0.0
    config.model.positions = "learned"
    config.model.d_ff = 256
    config.train.learning_rate = 4e-3
    config.finetune.learning_rate = 0.0
    return config
