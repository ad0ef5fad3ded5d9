"""SLM: the paper's small model, pretrained on generic text.

Reproduces: Grangier et al., "Need a Small Specialized Language Model? Plan Early!"
  (arXiv 2402.01093), section 3 and table of model sizes: 7 layers, d 1024, d_ff 4096, 8 heads,
  context 1,024, a 32k vocabulary, 126M parameters; Adam, 1e-4, clip 5, 1,000 warm-up steps.
Hardware: published on 8 A100 (2.2 GPU hours per 1B tokens); any mesh of TPU or GPU devices here.
Time: published limit 530 GPU hours (3,195k steps of about 57k tokens at 400 GPU hours).
Expected: published macro-averaged perplexity over nine Pile domains 33.0 before fine-tuning;
  18.2 / 14.8 / 12.0 after, with 1M / 8M / 64M specialist tokens. Not run by us: it needs c4.
Command:
  specialm train --config=configs/paper/slm.py --workdir=runs/paper \\
    --config.data.generic=tfds:c4/en:2.2.0 --config.data.vocabulary=c4_32k.model
"""

from specialm.config import default


def get_config():
    config = default()
    config.title = "SLM at the published size"
    config.data.context = 1024
    config.data.vocabulary_size = 32_000
    config.data.vocabulary_sample_bytes = 40_000_000
    config.data.specialist_tokens = 1_000_000
    config.data.valid_tokens = 200_000
    config.data.heldout_tokens = 0
    config.data.generic_heldout_fraction = 0.0001
    config.clustering.k = 1024
    config.clustering.method = "minibatch"
    config.clustering.max_repetitions = 0.0  # published without a cap
    config.model.num_layers = 7
    config.model.d_model = 1024
    config.model.d_ff = 4096
    config.model.num_heads = 8
    config.model.dtype = "bfloat16"
    config.model.remat = "dots"
    config.train.tokens = 180_000_000_000
    config.train.batch_size = 56
    config.train.optimizer = "adam"
    config.train.schedule = "constant"
    config.train.learning_rate = 1e-4
    config.train.warmup_steps = 1000
    config.train.beta2 = 0.999
    config.train.clip_norm = 5.0
    config.train.log_every = 100
    config.train.checkpoint_every = 10_000
    config.finetune.max_steps = 2000
    config.finetune.eval_every = 50
    config.finetune.batch_size = 56
    return config
