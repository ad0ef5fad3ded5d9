"""Drawing tokens from logits, on the device, each row by its own choices.

Nothing is sorted: top-k and top-p are thresholds of the logits, found bit by bit, and one uniform
number a row picks a token from the sums of what is left.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

BLOCK = 128  # tokens that are summed together first


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
    index_B: Numbers  # int32, tokens that were drawn before: one random number for each


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
    weight_BxV = jnp.where(weight_BxV >= choices.min_p_B[:, None], weight_BxV, 0)
    return _pick(weight_BxV, _uniform(choices.seed_B, choices.index_B))


def _uniform(seed_B: Numbers, index_B: Numbers) -> jax.Array:
    """One number of [0, 1) for each row: a function of its seed and its place alone."""

    def one(seed, index):
        return jax.random.uniform(jax.random.fold_in(jax.random.key(seed), index))

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


def _pick(weight_BxV: jax.Array, uniform_B: jax.Array) -> jax.Array:
    """The token at which the running sum of the weights passes `uniform` times their sum."""
    batch, vocabulary = weight_BxV.shape
    padded_BxV = jnp.pad(weight_BxV, ((0, 0), (0, -vocabulary % BLOCK)))
    weight_BxsxI = padded_BxV.reshape(batch, -1, BLOCK)
    sum_Bxs = jnp.sum(weight_BxsxI, axis=2)
    block_B, rest_B = _passed(sum_Bxs, uniform_B * jnp.sum(sum_Bxs, axis=1))
    weight_BxI = jnp.take_along_axis(weight_BxsxI, block_B[:, None, None], axis=1)[:, 0]
    return block_B * BLOCK + _passed(weight_BxI, rest_B)[0]


def _passed(weight_BxI: jax.Array, at_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(the first place at which the running sum passes `at`, what is left of `at` there); never a
    place of weight 0, also where rounding leaves the sum short.
    """
    running_BxI = jnp.cumsum(weight_BxI, axis=1)
    passed_BxI = (running_BxI > at_B[:, None]) & (weight_BxI > 0)
    place_B = jnp.where(
        jnp.any(passed_BxI, axis=1), jnp.argmax(passed_BxI, axis=1), jnp.argmax(weight_BxI, axis=1)
    ).astype(jnp.int32)
    before_BxI = running_BxI - weight_BxI
    return place_B, at_B - jnp.take_along_axis(before_BxI, place_B[:, None], axis=1)[:, 0]
