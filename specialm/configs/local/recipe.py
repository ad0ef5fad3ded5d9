"""The best recipe that two cores have found: a table of n-grams, Muon, many small steps.

Reproduces: nothing published. It goes on from configs/local/slm.py, its choices are of validation
  text (results/README.md): 0.24M parameters in layers and vocabulary, 16.8M in a table of bigrams
  and trigrams (arXiv 2501.16975, section 3.2), 7M tokens.
Hardware: two CPU cores, under 4 GB of memory.
Time: about 2.5 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm` rows of results/README.md (the demo trains the same model).
Command:
  specialm fetch && specialm train --config=configs/local/recipe.py --workdir=runs/recipe
"""

import runpy
from pathlib import Path


def get_config():
    config = runpy.run_path(str(Path(__file__).with_name("slm.py")))["get_config"]()
    config.title = "SLM by the best recipe of two cores"
    config.data.vocabulary_size = 2048
    config.train.tokens = 7_000_000
    config.model.embedder = "ngrams"
    config.model.ngram_rows = 131_072
    config.train.optimizer = "muon"
    config.train.batch_size = 32
    config.train.learning_rate = 16e-3
    config.train.table_multiplier = 0.1
    # A table knows by heart what it sees often: with 3 draws of a window importance sampling is
    # worse than none (results/README.md).
    config.clustering.max_repetitions = 2.0
    # Fine-tuning at a high rate, of which the moving average stays; half of what it reads is
    # generic text that is like the domain's.
    config.finetune.learning_rate = 1e-2
    config.finetune.average = 0.99
    config.finetune.replay_fraction = 0.5
    config.finetune.replay_draws = "importance"
    return config
