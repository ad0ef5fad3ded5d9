"""Continuing a text without a cache, a batch or a program: the full forward pass for every token,
and the choice of one in NumPy float64 with sorted probabilities.
"""

import jax
import numpy as np

from specialm.models import transformer

LOGITS = jax.jit(transformer.logits, static_argnums=2)


def choose(logits_V, seen, sampling, index):
    """One token, of logits, by the book: penalty, temperature, top-k, top-p, min-p."""
    scores = np.asarray(logits_V, np.float64).copy()
    for token in set(seen):
        over = scores[token] > 0
        scores[token] *= 1 / sampling.repetition_penalty if over else sampling.repetition_penalty
    if sampling.temperature == 0:
        return int(np.argmax(scores))
    scores /= sampling.temperature
    p = np.exp(scores - scores.max())
    if sampling.top_k:
        p[p < np.sort(p)[-min(sampling.top_k, len(p))]] = 0
    if sampling.top_p < 1:
        order = np.argsort(-p)
        count = int(np.argmax(np.cumsum(p[order]) >= sampling.top_p * p.sum())) + 1
        p[order[count:]] = 0
    p[p < sampling.min_p * p.max()] = 0
    key = jax.random.fold_in(jax.random.key(np.uint32(sampling.seed)), index)
    with np.errstate(divide="ignore"):
        return int(np.argmax(np.log(p) + np.asarray(jax.random.gumbel(key, p.shape), np.float64)))


def window(tokens, start, context):
    """The tokens that the next one is predicted from: a full window moves by halves."""
    begin = 0
    while 1 + len(tokens) - begin > context:
        begin += max(context // 2, 1)
    return [start, *tokens[begin:]]


def logits_after(params, config, tokens, start):
    """float32 [V] of the token that follows."""
    seen = window(tokens, start, config.context)
    padded = np.zeros((1, config.context), np.int32)
    padded[0, : len(seen)] = seen
    return np.asarray(LOGITS(params, padded, config)[0, len(seen) - 1])


def continued(params, config, prompt, sampling, start, stops=()):
    """(tokens after the prompt, their log-probabilities)."""
    tokens, logps = list(prompt), []
    while len(tokens) - len(prompt) < sampling.tokens:
        if len(tokens) >= config.context and not sampling.slide:
            break
        logits_V = logits_after(params, config, tokens, start).astype(np.float64)
        token = choose(logits_V, tokens, sampling, len(tokens) - len(prompt))
        if token in stops:
            break
        tokens.append(token)
        peak = logits_V.max()
        logps.append(logits_V[token] - peak - np.log(np.exp(logits_V - peak).sum()))
    return tokens[len(prompt) :], logps
