"""STLM-50M, byte-pooled: 50M parameters, nearly all of them in the layers.

Reproduces: in kind, the byte-pooled model of "Super Tiny Language Models" (arXiv 2405.14159) at
  50M: width 512, MLPs of 1,320 (SwiGLU), 16 heads and 4 of keys and values, rotary positions,
  RMSNorm, no biases, pieces of up to 12 bytes; AdamW 6e-4 to 6e-5, decay 0.1, clip 1, bfloat16. Our
  reading: two blocks of width 128 over the bytes of a piece, one over the slots of the head, and
  18 layers, so that the parameters are those of the dense twin (50m_dense.py).
Hardware: any mesh of TPU or GPU devices.
Time: not run by us at this size.
Expected: embedding and head take 1.4M parameters, those of the dense twin 25.7M (`specialm
  inspect`). Published for 50M, zero-shot: BLiMP 78, HellaSwag 30, ARC-easy 39, WinoGrande 50.
Command:
  specialm train --config=configs/stlm/50m.py --workdir=runs/stlm \\
    --config.data.generic=parquet:fineweb_edu
"""

from specialm.config import default


def get_config():
    config = default()
    config.title = "STLM-50M, byte-pooled"
    config.data.context = 512
    config.data.vocabulary_kind = "bpe"
    config.data.vocabulary_size = 50_257
    config.data.vocabulary_sample_bytes = 200_000_000
    config.data.longest_piece = 12
    config.data.generic_heldout_fraction = 0.001
    config.model.norm = "rmsnorm"
    config.model.positions = "rope"
    config.model.mlp = "swiglu"
    config.model.biases = False
    config.model.dtype = "bfloat16"
    config.model.remat = "dots"
    config.model.num_layers = 18
    config.model.d_model = 512
    config.model.d_ff = 1320
    config.model.num_heads = 16
    config.model.num_kv_heads = 4
    config.model.embedder = "bytes"
    config.model.head = "bytes_in_turn"
    config.model.byte_size = 128
    config.model.byte_layers = 2
    config.train.tokens = 10_000_000_000
    config.train.batch_size = 480
    config.train.optimizer = "adamw"
    config.train.learning_rate = 6e-4
    config.train.final_fraction = 0.1
    config.train.warmup_steps = 1000
    config.train.weight_decay = 0.1
    config.train.beta1, config.train.beta2 = 0.9, 0.95
    config.train.clip_norm = 1.0
    config.train.log_every = 100
    config.train.checkpoint_every = 2000
    return config
