"""The sizes and the architecture of a transformer: every choice by the name of a part."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Config:
    """A transformer. Hashable, so that it can be a static argument of `jax.jit`.

    The fields with a default are settings `model.*` of a config too. The defaults are GPT-2's
    architecture, as published (arXiv 2402.01093).
    """

    vocab_size: int
    context: int  # longest window in training; the number of learned positions
    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    dtype: str = "float32"  # of the arithmetic: float32 | bfloat16; parameters stay float32
    # none | dots | full: what the backward pass computes again of a layer: nothing, all but matrix
    # products, all.
    remat: str = "none"
    # auto | blocked (fastest on a CPU) | splash (a kernel for TPUs) | fused (any)
    attention: str = "auto"
    norm: str = "layernorm"  # layernorm | rmsnorm (parts/norms.py)
    norm_epsilon: float = 1e-5
    positions: str = "learned"  # learned | rope (parts/positions.py)
    rope_base: float = 10_000.0
    rope_factor: float = 1.0  # positions are divided by it: longer windows than in training
    mlp: str = "gelu"  # gelu | swiglu, whose d_ff is that of each half (parts/mlps.py)
    num_kv_heads: int = 0  # grouped-query attention: heads of keys and values; 0 for num_heads
    head_size: int = 0  # 0 for d_model / num_heads
    qk_norm: bool = False  # RMSNorm of each head's queries and keys
    biases: bool = True  # of linear maps
    causal: bool = True  # False: attention sees the whole window
    embedder: str = "tokens"  # tokens (parts/embedders.py)
    head: str = "tied"  # tied | untied (parts/heads.py)
    # Layers after which one more head reads the state (counted from 1), and the weight of their
    # mean loss: loss = (1 - exit_weight) * last head + exit_weight * mean of the exits.
    exits: tuple[int, ...] = ()
    exit_weight: float = 0.5

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values, J."""
        return self.num_kv_heads or self.num_heads

    @property
    def size_of_head(self) -> int:
        """Numbers of a query or a key, K."""
        return self.head_size or self.d_model // self.num_heads
