"""The demo: SLM against SLM-is on real text, three specialist domains, on a laptop's CPU.

Reproduces: in kind, the comparison of importance sampling with generic pretraining of
  arXiv 2402.01093 at a size that two cores train in minutes: configs/local/recipe.py, 7M tokens,
  256 clusters, specialist sets of about 50k tokens.
Hardware: two CPU cores, under 6 GB of memory.
Time: 12 to 15 minutes; seconds when everything is there already.
Expected: results/README.md: after fine-tuning SLM-is at 1.892 bits per byte and SLM at 1.920 in
  macro average, n-grams of all text at 1.923, LZMA at 2.093.
Command:
  make demo
  or: specialm demo --config=configs/local/demo.py --workdir=runs/demo
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("recipe.py")))["get_config"]()
    config.title = "SLM and SLM-is on three domains"
    config.methods = ("slm", "slm_is")
    return config
