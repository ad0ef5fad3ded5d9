"""Plain text generation: sampling with temperature and top-k, one token at a time from a cache."""

from functools import partial

import jax
import jax.numpy as jnp

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import transformer


@partial(jax.jit, static_argnames=("config", "top_k"), donate_argnames="cache")
def _next(params, tokens_1xL, cache, first, position, key, temperature, config, top_k):
    """(the token after place `position` of these, the cache with their keys and values)."""
    logits_1xLxV, cache = transformer.decode(params, tokens_1xL, cache, first, config)
    best_k, tokens_k = jax.lax.top_k(logits_1xLxV[0, position], top_k)
    sampled = jax.random.categorical(key, best_k / jnp.maximum(temperature, 1e-6))
    return tokens_k[jnp.where(temperature > 0, sampled, 0)], cache


def generate(
    params: transformer.Params,
    config: transformer.Config,
    vocabulary: Vocabulary,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
) -> str:
    """Continues `prompt` by at most `tokens` tokens, stopping at the end of the document.

    Temperature 0 takes the likeliest token. After a full window the text slides: then, and at the
    start, the whole window is read; in between one token at a time.

    Raises:
      UserError: `top_k` or `temperature` out of range, or the model is not causal.
    """
    if not 1 <= top_k <= config.vocab_size:
        raise UserError(f"generate.top_k={top_k}: must be between 1 and {config.vocab_size}.")
    if temperature < 0:
        raise UserError(f"generate.temperature={temperature}: must not be negative.")
    if not config.causal:
        raise UserError("model.causal=False: only causal models continue a text.")
    text = [vocabulary.start, *vocabulary.encode([prompt])[0]]
    cache, filled = transformer.init_cache(config, 1), 0
    for key in jax.random.split(jax.random.key(seed), max(tokens, 1))[:tokens]:
        window = text[-config.context :]
        if 0 < filled == len(text) - 1 < config.context:
            given_1xL, first = jnp.array([[text[-1]]], jnp.int32), filled
        else:
            padding = [vocabulary.start] * (config.context - len(window))
            given_1xL, first = jnp.array([window + padding], jnp.int32), 0
        token, cache = _next(
            params,
            given_1xL,
            cache,
            first,
            len(window) - 1 - first,
            key,
            temperature,
            config,
            top_k,
        )
        filled = len(text)
        if int(token) in vocabulary.stops:
            break
        text.append(int(token))
    return vocabulary.decode(text[1:])
