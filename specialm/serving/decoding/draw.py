"""Drawing tokens from logits, on the device, each row by its own choices.

Nothing is sorted: top-k and top-p are thresholds of the logits, found bit by bit. A token is drawn
by adding Gumbel noise to the logits and taking the largest sum. Rounding, which differs with what
lies beside a row, changes it only where the two largest are as good as equal; the sums of
probabilities in which an inverse distribution function is looked up have a border for every token.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Kind(NamedTuple):
    """What any of the rows needs; programs are compiled for each kind (hashable)."""

    draws: bool = False  # a temperature above 0
    filters: bool = False  # top-k or top-p
    penalised: bool = False
    top: int = 0  # likeliest tokens that are reported


Numbers = jax.Array | np.ndarray


class Choices(NamedTuple):
    """Of each row, see `Sampling`."""

    temperature_B: Numbers
    top_k_B: Numbers  # int32; 0 for all
    top_p_B: Numbers
    min_p_B: Numbers
    penalty_B: Numbers
    seed_B: Numbers  # uint32
    index_B: Numbers  # int32, tokens that were drawn before


class Drawn(NamedTuple):
    """Tokens, and their natural log-probabilities under the model itself (temperature 1)."""

    token_B: jax.Array  # int32
    logp_B: jax.Array
    top_token_Bxa: jax.Array  # int32, the likeliest, as many as `Kind.top`
    top_logp_Bxa: jax.Array


def draw(logits_BxV: jax.Array, choices: Choices, seen_BxV: jax.Array | None, kind: Kind) -> Drawn:
    """One token for each row.

    Args:
      seen_BxV: bool, the tokens of each text; where `kind.penalised`.
    """
    scores_BxV = logits_BxV
    if kind.penalised:
        scores_BxV = _penalised(logits_BxV, choices.penalty_B[:, None], seen_BxV)
    token_B = jnp.argmax(scores_BxV, axis=1).astype(jnp.int32)
    if kind.draws:
        drawn_B = _drawn(scores_BxV, choices, kind.filters)
        token_B = jnp.where(choices.temperature_B > 0, drawn_B, token_B)
    norm_B = jax.nn.logsumexp(logits_BxV, axis=1)
    logp_B = jnp.take_along_axis(logits_BxV, token_B[:, None], axis=1)[:, 0] - norm_B
    top_logit_Bxa, top_token_Bxa = jax.lax.top_k(logits_BxV, min(kind.top, logits_BxV.shape[1]))
    return Drawn(token_B, logp_B, top_token_Bxa, top_logit_Bxa - norm_B[:, None])


def _penalised(logits_BxV, penalty_Bx1, seen_BxV):
    """Of tokens that were there (Keskar et al., arXiv 1909.05858, section 4.1, with the sign as in
    transformers: a negative logit is multiplied).
    """
    worse_BxV = jnp.where(logits_BxV > 0, logits_BxV / penalty_Bx1, logits_BxV * penalty_Bx1)
    return jnp.where(seen_BxV, worse_BxV, logits_BxV)


def _drawn(scores_BxV: jax.Array, choices: Choices, filters: bool) -> jax.Array:
    scaled_BxV = scores_BxV / jnp.maximum(choices.temperature_B, 1e-6)[:, None]
    scaled_BxV -= jnp.max(scaled_BxV, axis=1, keepdims=True)
    weight_BxV = jnp.exp(scaled_BxV)
    if filters:
        weight_BxV = _only_top(scaled_BxV, weight_BxV, choices)
    is_left_BxV = (weight_BxV > 0) & (weight_BxV >= choices.min_p_B[:, None])
    noise_BxV = _noise(choices.seed_B, choices.index_B, scores_BxV.shape[1])
    noisy_BxV = jnp.where(is_left_BxV, scaled_BxV + noise_BxV, -jnp.inf)
    return jnp.argmax(noisy_BxV, axis=1).astype(jnp.int32)


def _noise(seed_B: Numbers, index_B: Numbers, vocabulary: int) -> jax.Array:
    """float32 [B, V], Gumbel: a function of each row's seed and place alone."""

    def one(seed, index):
        key = jax.random.fold_in(jax.random.key(seed), index)
        return jax.random.gumbel(key, (vocabulary,))

    return jax.vmap(one)(seed_B, index_B)


def _only_top(scaled_BxV, weight_BxV, choices: Choices) -> jax.Array:
    """The weights of top-k and, of these, top-p (Holtzman et al., arXiv 1904.09751); else 0."""
    rank_BxV = _ranked(scaled_BxV)
    vocabulary = scaled_BxV.shape[1]
    k_B = jnp.where(choices.top_k_B > 0, choices.top_k_B, vocabulary).clip(1, vocabulary)
    least_B = _largest(lambda at_B: jnp.sum(rank_BxV >= at_B[:, None], axis=1) >= k_B, k_B)
    weight_BxV = jnp.where(rank_BxV >= least_B[:, None], weight_BxV, 0)
    wanted_B = choices.top_p_B * jnp.sum(weight_BxV, axis=1)

    def has_enough(at_B: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(rank_BxV >= at_B[:, None], weight_BxV, 0), axis=1) >= wanted_B

    least_B = jnp.where(choices.top_p_B < 1, _largest(has_enough, k_B), 0)
    return jnp.where(rank_BxV >= least_B[:, None], weight_BxV, 0)


def _ranked(x: jax.Array) -> jax.Array:
    """uint32 in the order of these float32."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits & sign, ~bits, bits | sign)


def _largest(holds, like_B: jax.Array) -> jax.Array:
    """The largest uint32 of each row for which `holds`, which is true of 0 and monotone."""

    def with_bit(i, at_B):
        higher_B = at_B | (jnp.uint32(1 << 31) >> i.astype(jnp.uint32))
        return jnp.where(holds(higher_B), higher_B, at_B)

    return jax.lax.fori_loop(0, 32, with_bit, jnp.zeros_like(like_B, jnp.uint32))
