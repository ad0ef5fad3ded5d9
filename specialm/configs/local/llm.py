"""LLM on a laptop: the large model, the upper reference and the teacher of SLM-d.

Reproduces: in kind, the LLM of arXiv 2402.01093 next to configs/local/slm.py: about 5 times its
  parameters (0.8M), the same text.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 4 minutes, and 1 minute for preparing the data the first time.
Expected: no committed row at this size; the study (configs/local/study.py) compares a large model
  with the small ones at equal cost.
Command:
  specialm fetch
  specialm train --config=configs/local/llm.py --workdir=runs/local
  specialm specialize --config=configs/local/llm.py --workdir=runs/local --config.domain=med
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "LLM on a laptop"
    config.method = "llm"
    config.model.d_model = 160
    config.model.d_ff = 640
    config.train.learning_rate = 4e-3  # that of the small model was chosen for its width
    return config
