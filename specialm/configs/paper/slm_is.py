"""SLM-is: the small model, pretrained on generic text resampled to one domain's clusters.

Reproduces: arXiv 2402.01093, importance sampling: 1,024 clusters of Sentence-BERT (MiniLM)
  embeddings of c4 windows, w(c) = P(c | specialist) / P(c | generic); sizes and optimiser as in
  configs/paper/slm.py.
Hardware: as configs/paper/slm.py, for each domain.
Time: published limit 130 GPU hours (A100) for each domain.
Expected: published as a figure only: the best of the small models, and at 1M specialist tokens
  better than the 771M LLM. Not run by us: it needs c4.
Command:
  specialm train --config=configs/paper/slm_is.py --workdir=runs/paper --config.domain=med \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM-is at the published size"
    config.method = "slm_is"
    config.train.tokens = 58_000_000_000  # 130 GPU hours at 2.2 GPU hours per 1B tokens
    return config
