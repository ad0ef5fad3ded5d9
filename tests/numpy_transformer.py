"""Any architecture's forward pass in NumPy float64: one window, one layer, one head at a time."""

import jax
import numpy as np


def norm(x, weights, config):
    if config.norm == "layernorm":
        x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + config.norm_epsilon)
    return x * weights["scale"] + weights.get("bias", 0)


def head_norm(x, weights, config):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * weights["scale"]


def rotate(x, config):
    """Turns the pair (i, i + K/2) of the vector at each position, as complex numbers."""
    half = x.shape[-1] // 2
    pairs = x[..., :half] + 1j * x[..., half:]
    for position in range(len(x)):
        for i in range(half):
            angle = position / config.rope_factor * config.rope_base ** (-2 * i / (2 * half))
            pairs[position, i] *= np.exp(1j * angle)
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def attention(h, w, config, present):
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
            q, k = rotate(q, config), rotate(k, config)
        scores = q @ k.T / np.sqrt(size)
        scores[:, ~present] = -np.inf
        if config.causal:
            scores[np.triu_indices(length, 1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out += weights / weights.sum(axis=1, keepdims=True) @ v @ w["out"][head]
    return out + w.get("out_bias", 0)


def mlp(h, w, config):
    if config.mlp == "swiglu":
        gate, up = (
            h @ w["up"][:, part] + (w["up_bias"][part] if "up_bias" in w else 0) for part in (0, 1)
        )
        act = gate / (1 + np.exp(-gate)) * up
    else:
        up = h @ w["up"] + w.get("up_bias", 0)
        act = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
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
        if config.positions == "learned":
            x = x + p["position"]["table"][: len(window)]
        there = np.ones(len(window), bool) if config.causal else there
        for y in range(layers):
            w = jax.tree.map(lambda leaf, y=y: leaf[y], p["layers"])
            x = x + attention(norm(x, w["norm1"], config), w["attention"], config, there)
            x = x + mlp(norm(x, w["norm2"], config), w["mlp"], config)
        windows.append(norm(x, p["heads"][head]["norm"], config) @ out.T)
    return np.stack(windows)
