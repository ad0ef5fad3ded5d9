"""Any architecture's forward pass in NumPy float64: one window, one layer, one head at a time."""

import jax
import numpy as np


def norm(x, weights, config):
    if config.norm == "layernorm":
        x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.norm_epsilon)
    return x * scale(weights, config) + weights.get("bias", 0)


def scale(weights, config):
    return weights["scale"] + (config.norm == "rmsnorm_plus1")


def head_norm(x, weights, config):
    return (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * scale(weights, config)
    )


def is_local(layer, config):
    """Whether a layer, counted from 1, looks back `sliding_window` tokens only."""
    every = config.global_every
    return config.sliding_window > 0 and not (every and layer % every == 0)


def rotate(x, config, local):
    """Turns the pair (i, i + K/2) of the vector at each position, as complex numbers."""
    base = config.local_rope_base if local else config.rope_base
    factor = 1.0 if local else config.rope_factor
    half = x.shape[-1] // 2
    pairs = x[..., :half] + 1j * x[..., half:]
    for position in range(len(x)):
        for i in range(half):
            angle = position / factor * base ** (-2 * i / (2 * half))
            pairs[position, i] *= np.exp(1j * angle)
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def ngrams(window, table, config):
    """[L, D]: the sum of the rows of the n-grams that end at each token, token 0 before the first.

    An n-gram's row: from its last token backwards, (hash xor (token + 1)) * 0x9E3779B1 modulo 2^32,
    its upper half added to its lower one by xor.
    """
    rows = []
    for place in range(len(window)):
        found, row = 0, np.zeros(table.shape[-1])
        for back in range(config.ngram_order):
            token = int(window[place - back]) if place >= back else 0
            found = (found ^ (token + 1)) * 0x9E3779B1 % 2**32
            found ^= found >> 16
            if back:
                row = row + table[(back - 1) * config.ngram_rows + found % config.ngram_rows]
        rows.append(row)
    return np.stack(rows)


def attention(h, w, config, present, local):
    length, heads, groups = len(h), config.num_heads, config.kv_heads
    size, queries = config.head_size or config.d_model // heads, heads // groups
    out = np.zeros((length, config.d_model))
    for head in range(heads):
        group, member = divmod(head, queries)
        q, k, v = (
            h @ w["qkv"][:, part, group] + (w["qkv_bias"][part, group] if "qkv_bias" in w else 0)
            for part in (member, queries, queries + 1)
        )
        if config.qk_norm:
            q, k = head_norm(q, w["q_norm"], config), head_norm(k, w["k_norm"], config)
        if config.positions == "rope":
            q, k = rotate(q, config, local), rotate(k, config, local)
        scores = q @ k.T / np.sqrt(config.query_scalar or size)
        scores[:, ~present] = -np.inf
        if config.causal:
            scores[np.triu_indices(length, 1)] = -np.inf
        if local:
            scores[np.tril_indices(length, -config.sliding_window)] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out += weights / weights.sum(axis=1, keepdims=True) @ v @ w["out"][head]
    return out + w.get("out_bias", 0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def mlp(h, w, config):
    if config.mlp in ("swiglu", "geglu"):
        gate, up = (
            h @ w["up"][:, part] + (w["up_bias"][part] if "up_bias" in w else 0) for part in (0, 1)
        )
        act = (gelu(gate) if config.mlp == "geglu" else gate / (1 + np.exp(-gate))) * up
    else:
        act = gelu(h @ w["up"] + w.get("up_bias", 0))
    return act @ w["down"] + w.get("down_bias", 0)


def logits(params, tokens, config, present=None, head="last"):
    """float64 [B, L, V] of any of a model's heads.

    Args:
      present: bool [B, L], of attention that is not causal; None for all.
    """
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    present = np.ones(tokens.shape, bool) if present is None else present
    layers = config.num_layers if head == "last" else int(head.removeprefix("layer"))
    out = p["heads"][head].get("out", p["embed"]["tokens"])
    windows = []
    for window, there in zip(tokens, present, strict=True):
        x = p["embed"]["tokens"][window]
        if config.embedder == "scaled_tokens":
            x = x * np.sqrt(config.d_model)
        if config.embedder == "ngrams":
            x = x + ngrams(window, p["embed"]["ngrams"], config)
        if config.positions == "learned":
            x = x + p["position"]["table"][: len(window)]
        there = np.ones(len(window), bool) if config.causal else there
        for y in range(layers):
            w = jax.tree.map(lambda leaf, y=y: leaf[y], p["layers"])
            local = is_local(y + 1, config)
            mixed = attention(norm(x, w["norm1"], config), w["attention"], config, there, local)
            x = x + (norm(mixed, w["post_norm1"], config) if config.post_norms else mixed)
            made = mlp(norm(x, w["norm2"], config), w["mlp"], config)
            x = x + (norm(made, w["post_norm2"], config) if config.post_norms else made)
        windows.append(norm(x, p["heads"][head]["norm"], config) @ out.T)
    return np.stack(windows)
