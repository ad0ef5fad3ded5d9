"""SLM on a laptop: a small model pretrained on the default generic corpus.

Reproduces: in kind, the SLM baseline of arXiv 2402.01093 at the demo's size (0.17M parameters,
  4M tokens, vocabulary 1,024, context 128), with rotary positions.
Hardware: two CPU cores, under 2 GB of memory.
Time: about 2 minutes, and 1 minute for preparing the data the first time.
Expected: the `slm` rows of results/README.md (the demo trains the same model).
Command:
  specialm fetch && specialm train --config=configs/local/slm.py --workdir=runs/local
"""

from specialm.config import default


def get_config():
    config = default()
    config.title = "SLM on a laptop"
    config.data.vocabulary_size = 1024
    config.clustering.encoder = "tfidf_svd"
    config.model.num_layers = 2
    # The best of results/architecture at equal parameters and time: rotary positions, and the MLPs
    # as much wider as the table of positions was large.
    config.model.positions = "rope"
    config.model.d_ff = 288
    config.train.learning_rate = 8e-3
    config.finetune.learning_rate = 4e-3 / 3
    config.train.tokens = 4_000_000
    return config
