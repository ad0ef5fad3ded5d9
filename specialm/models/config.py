"""The sizes and the architecture of a transformer: every choice by the name of a part."""

from dataclasses import dataclass

from specialm.common.setting import field, table

PARTS = "specialm.models.parts"


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
    dtype: str = field(
        "float32", "of the arithmetic; parameters stay float32", choices=("float32", "bfloat16")
    )
    remat: str = field(
        "none",
        "what the backward pass computes again of a layer: nothing, all but matrix products, all",
        choices=("none", "dots", "full"),
    )
    attention: str = field(
        "auto",
        "auto chooses; blocked is the fastest on a CPU, splash a kernel for TPUs, cudnn for NVIDIA "
        "GPUs in bfloat16, fused for any",
        choices=("auto", "blocked", "splash", "cudnn", "fused"),
    )
    norm: str = field(
        "layernorm",
        "normalisation; of rmsnorm_plus1 the scales are 1 + w",
        choices=table(f"{PARTS}.norms:NORMS", "layernorm", "rmsnorm", "rmsnorm_plus1"),
    )
    post_norms: bool = field(False, "what attention and MLP give is normed too, before it is added")
    norm_epsilon: float = field(1e-5, "of the normalisations", above=0)
    positions: str = field(
        "learned", "positions", choices=table(f"{PARTS}.positions:POSITIONS", "learned", "rope")
    )
    rope_base: float = field(10_000.0, "rope: base of the angles", above=0)
    rope_factor: float = field(
        1.0, "rope: positions are divided by it, for longer windows than in training", above=0
    )
    mlp: str = field(
        "gelu",
        "kind of MLP; of geglu and swiglu d_ff is the size of each half",
        choices=table(f"{PARTS}.mlps:MLPS", "geglu", "gelu", "swiglu"),
    )
    num_kv_heads: int = field(
        0,
        "grouped-query attention: heads of keys and values; 0 for num_heads",
        least=0,
        divides="model.num_heads",
    )
    head_size: int = field(0, "numbers of a query or a key; 0 for d_model / num_heads", least=0)
    qk_norm: bool = field(False, "RMSNorm of each head's queries and keys")
    query_scalar: int = field(
        0, "scores are q k / sqrt(query_scalar); 0 for the size of a head", least=0
    )
    sliding_window: int = field(
        0,
        "tokens that a token sees in a local layer, itself among them; 0: no layer is local",
        least=0,
    )
    global_every: int = field(
        6, "with sliding_window: of so many layers the last is not local; 0: all are", least=0
    )
    local_rope_base: float = field(
        10_000.0, "rope_base of local layers, whose rope_factor is 1", above=0
    )
    biases: bool = field(True, "biases of linear maps")
    causal: bool = field(True, "False: attention sees the whole window")
    share: tuple[str, ...] = field(
        (),
        "weights that layers share: PART:PATTERN or PART:PATTERN+low_rank each, such as mlp:all, "
        "attention_output:inner, block:cycle-2 (docs/tiny.md)",
    )
    share_rank: int = field(
        64, "share, +low_rank: rank of each layer's correction of a shared matrix", least=1
    )
    embedder: str = field(
        "tokens",
        "what tokens become: a row of a table, scaled_tokens times sqrt(d_model), with rows of the "
        "n-grams that they end, a row of a product of two, or the mean of their bytes "
        "(docs/tiny.md)",
        choices=table(
            f"{PARTS}.embedders:EMBEDDERS", "tokens", "scaled_tokens", "ngrams", "factored", "bytes"
        ),
    )
    ngram_order: int = field(3, "embedder ngrams: the length of the longest", least=2, most=8)
    ngram_rows: int = field(32_768, "the same: rows of the table of each length", least=1)
    embed_rank: int = field(
        0, "embedder factored or bytes: numbers of each token's own, beside its bytes", least=0
    )
    head: str = field(
        "tied",
        "the output: the embedder's vectors, or weights of its own; the bytes of a piece, all at "
        "once or in turn",
        choices=table(f"{PARTS}.heads:HEADS", "tied", "untied", "bytes", "bytes_in_turn"),
    )
    byte_slots: int = field(12, "embedder or head of bytes: the most bytes of a piece", least=1)
    byte_classes: int = field(
        264, "the same: 256 bytes, the end mark, and one for each token without bytes", least=258
    )
    byte_size: int = field(64, "the same: numbers of a byte's vector", least=1)
    byte_heads: int = field(4, "the same: attention heads of the blocks over bytes", least=1)
    byte_layers: int = field(1, "embedder of bytes: blocks", least=0)
    byte_head_layers: int = field(1, "head of bytes: blocks", least=0)
    exits: tuple[int, ...] = field(
        (), "layers after which one more head reads the state, counted from 1", of=int, least=1
    )
    exit_weight: float = field(
        0.5,
        "loss = (1 - exit_weight) * last head + exit_weight * mean of the exits",
        least=0,
        most=1,
    )

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values, J."""
        return self.num_kv_heads or self.num_heads

    @property
    def size_of_head(self) -> int:
        """Numbers of a query or a key, K."""
        return self.head_size or self.d_model // self.num_heads
