"""A small BERT with random weights, and its forward pass in plain NumPy float64."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

D_MODEL, HEADS, D_FF, LAYERS, VOCABULARY, POSITIONS = 24, 3, 40, 2, 50, 16
WORDS = [f"w{i}" for i in range(VOCABULARY - 4)]


def random_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """A small BERT's tensors under their Hugging Face names."""
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, D_MODEL),
        "embeddings.position_embeddings.weight": (POSITIONS, D_MODEL),
        "embeddings.token_type_embeddings.weight": (2, D_MODEL),
    }
    norms, linears = ["embeddings.LayerNorm"], {}
    for i in range(LAYERS):
        prefix = f"encoder.layer.{i}."
        linears |= {
            f"{prefix}attention.self.{n}": (D_MODEL, D_MODEL) for n in ("query", "key", "value")
        }
        linears |= {
            f"{prefix}attention.output.dense": (D_MODEL, D_MODEL),
            f"{prefix}intermediate.dense": (D_FF, D_MODEL),
            f"{prefix}output.dense": (D_MODEL, D_FF),
        }
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (D_MODEL,), f"{name}.bias": (D_MODEL,)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def numpy_bert(tensors: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """The unit sentence vector of one unpadded text, float64, straight from the definition."""
    from scipy.special import erf

    t = {name: value.astype(np.float64) for name, value in tensors.items()}

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * t[f"{name}.weight"] + t[f"{name}.bias"]

    x = (
        t["embeddings.word_embeddings.weight"][ids]
        + t["embeddings.position_embeddings.weight"][: len(ids)]
        + t["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    for i in range(LAYERS):
        p = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{p}attention.self.{n}") for n in ("query", "key", "value"))
        parts = []
        for head in np.split(np.arange(D_MODEL), HEADS):
            scores = q[:, head] @ k[:, head].T / np.sqrt(D_MODEL // HEADS)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            parts.append(weights / weights.sum(1, keepdims=True) @ v[:, head])
        mixed = linear(np.concatenate(parts, 1), f"{p}attention.output.dense")
        x = norm(x + mixed, f"{p}attention.output.LayerNorm")
        hidden = linear(x, f"{p}intermediate.dense")
        hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
        x = norm(x + linear(hidden, f"{p}output.dense"), f"{p}output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def write_folder(folder: Path, seed: int = 0, words: Sequence[str] = WORDS) -> Path:
    """A small model's folder; its tokeniser splits on spaces and, like the real file, comes with
    padding and truncation fixed (here at 8)."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(parents=True)
    save_file(random_tensors(seed), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps(
            {"num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "layer_norm_eps": 1e-12}
        )
    )
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    tokenizer = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
