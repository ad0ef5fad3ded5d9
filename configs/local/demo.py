"""The demo: SLM against SLM-is on real text, three specialist domains, on a laptop's CPU.

Reproduces: in kind, the comparison of importance sampling with generic pretraining of
  arXiv 2402.01093 at a size that two cores train in minutes: 0.18M parameters, 4M tokens (22 a
  parameter), 256 clusters, specialist sets of about 50k tokens.
Hardware: two CPU cores, under 6 GB of memory.
Time: under 15 minutes; seconds when everything is there already.
Expected: results/README.md: SLM-is below SLM in macro-averaged perplexity, before and after
  fine-tuning, and the control slm_is_shuffled not.
Command:
  make demo
  or: specialm demo --config=configs/local/demo.py --workdir=runs/demo
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM and SLM-is on three domains"
    config.methods = ("slm", "slm_is")
    return config
