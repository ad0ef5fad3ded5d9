"""Which sentence encoder clusters better: MiniLM or TF-IDF + SVD?

Reproduces: nothing published; the question of which encoder the demo should use. A fifth of the
  generic corpus, so that MiniLM has embedded it in minutes; the same domains and model as the demo.
Hardware: two CPU cores, under 6 GB of memory.
Time: about 10 minutes with MiniLM, 4 with tfidf_svd.
Expected: the comparison in results/README.md.
Command:
  make minilm
  specialm demo --config=configs/local/encoders.py --workdir=runs/encoders \\
    --config.clustering.encoder=minilm      # and again with tfidf_svd
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("gpt2.py")))["get_config"]()
    config.title = "Sentence encoders compared"
    config.methods = ("slm", "slm_is")
    config.data.generic_fraction = 0.2
    config.clustering.k = 128
    config.clustering.max_tokens = 96
    config.train.tokens = 2_000_000
    config.train.checkpoint_every = 1000
    return config
