"""LLM: the paper's large model, the upper reference; too big to serve.

Reproduces: arXiv 2402.01093: 7 layers, d 2816, d_ff 11264, 22 heads, 771M parameters; the
  optimiser of configs/paper/slm.py.
Hardware: published on 8 A100 (7.7 GPU hours per 1B tokens).
Time: published limit 650 GPU hours.
Expected: published macro-averaged perplexity 28.1 before fine-tuning; 14.4 / 12.5 / 10.0 after,
  with 1M / 8M / 64M specialist tokens. Not run by us: it needs c4.
Command:
  specialm train --config=configs/paper/llm.py --workdir=runs/paper \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "LLM at the published size"
    config.method = "llm"
    config.model.d_model = 2816
    config.model.d_ff = 11_264
    config.model.num_heads = 22
    config.model.remat = "dots"
    config.train.tokens = 78_000_000_000
    config.train.batch_size = 120
    return config
