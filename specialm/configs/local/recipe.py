"""The best recipe that two cores have found: a table of n-grams, Muon, many small steps.

Reproduces: the last recipe of results/ladder, which starts from configs/local/slm.py: 0.17M
  parameters in layers and vocabulary, 16.8M in a table of bigrams and trigrams, 4M tokens.
Hardware: two CPU cores, under 4 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm` rows of results/README.md (the demo trains the same model).
Command:
  specialm fetch && specialm train --config=configs/local/recipe.py --workdir=runs/recipe
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM by the best recipe of two cores"
    config.model.embedder = "ngrams"
    config.model.ngram_rows = 131_072
    config.train.optimizer = "muon"
    config.train.batch_size = 32
    config.train.learning_rate = 16e-3
    return config
