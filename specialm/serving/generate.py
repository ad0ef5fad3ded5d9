"""Plain text generation: sampling with temperature and top-k.

The window is recomputed for each token at one fixed length, so that it compiles once.
"""

from functools import partial

import jax
import jax.numpy as jnp

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import transformer


@partial(jax.jit, static_argnames=("config", "top_k"))
def _next(params, inputs_1xL, position, key, temperature, config, top_k):
    logits_V = transformer.logits(params, inputs_1xL, config)[0, position].astype(jnp.float32)
    best_k, tokens_k = jax.lax.top_k(logits_V, top_k)
    sampled = jax.random.categorical(key, best_k / jnp.maximum(temperature, 1e-6))
    return tokens_k[jnp.where(temperature > 0, sampled, 0)]


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

    Temperature 0 takes the likeliest token. Behind a full window, the text slides.

    Raises:
      UserError: `top_k` or `temperature` out of range.
    """
    if not 1 <= top_k <= config.vocab_size:
        raise UserError(f"generate.top_k={top_k}: must be between 1 and {config.vocab_size}.")
    if temperature < 0:
        raise UserError(f"generate.temperature={temperature}: must not be negative.")
    text = vocabulary.encode([prompt])[0]
    keys = jax.random.split(jax.random.key(seed), max(tokens, 1))
    for key in keys[:tokens]:
        seen = ([0] + text)[-config.context :]
        inputs_1xL = (
            jnp.zeros((1, config.context), jnp.int32)
            .at[0, : len(seen)]
            .set(jnp.array(seen, jnp.int32))
        )
        token = int(_next(params, inputs_1xL, len(seen) - 1, key, temperature, config, top_k))
        if token == vocabulary.eos:
            break
        text.append(token)
    return vocabulary.decode(text)
