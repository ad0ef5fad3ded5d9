"""Relations among the tokens of a window: how much each attends to those before it.

MiniLM's distributions softmax(q k / sqrt(A)) and softmax(v v / sqrt(A)) of the last layer (Wang et
al., arXiv 2002.10957, section 3), and those of queries and of keys among themselves (MiniLMv2,
arXiv 2012.15828, section 3.1). A token's loss is KL(teacher || student), the mean over the relation
heads. As in the latter the vectors of all heads are joined and cut anew into as many relation heads
for both models, so that they may have heads of other numbers and sizes; a head of keys or values
counts for each query head that shares it. Our reading for causal models: a token has relations to
itself and to those before it.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.models.operations import MASKED
from specialm.specialize.terms.record import Seen

RELATIONS = {  # term -> the two kinds of vectors that are multiplied
    "attention": ("q", "k"),
    "query": ("q", "q"),
    "key": ("k", "k"),
    "value": ("v", "v"),
}


def loss(one: str, other: str) -> Callable[[Seen, Seen, int], jax.Array]:
    """(student, teacher, relation heads) -> float32 [T], for these kinds of vectors."""

    def divergence(student: Seen, teacher: Seen, heads: int) -> jax.Array:
        log_q, log_p = (
            _log_relation(
                *(
                    _cut(seen.vectors[name], seen.vectors["q"].shape[2], heads)
                    for name in (one, other)
                )
            )
            for seen in (student, teacher)
        )
        apart = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)  # [B, heads, L]
        return jnp.mean(apart, axis=1).reshape(-1)

    return divergence


def _cut(x_BxLxHxA: jax.Array, queries: int, heads: int) -> jax.Array:
    """[B, heads, L, ...]: the vectors of all heads, cut anew.

    Args:
      queries: how many heads of queries there are.
    """
    repeated = jnp.repeat(x_BxLxHxA, queries // x_BxLxHxA.shape[2], axis=2)
    batch, length = repeated.shape[:2]
    return repeated.reshape(batch, length, heads, -1).swapaxes(1, 2).astype(jnp.float32)


def _log_relation(one: jax.Array, other: jax.Array) -> jax.Array:
    """[B, heads, L, L]: log softmax over the tokens up to each."""
    scores = jnp.einsum("bhqa,bhka->bhqk", one, other) / math.sqrt(one.shape[-1])
    length = scores.shape[-1]
    seen_LxL = jnp.tril(jnp.ones((length, length), bool))
    return jax.nn.log_softmax(jnp.where(seen_LxL, scores, MASKED), axis=-1)


def check(student: transformer.Config, teacher: transformer.Config, heads: int) -> None:
    """Raises UserError for relation heads that do not divide what the heads have together."""
    for who, model in (("student", student), ("teacher", teacher)):
        numbers = model.num_heads * model.size_of_head
        if numbers % heads:
            raise UserError(
                f"finetune.distill_heads={heads}: the heads of the {who} have {numbers} numbers "
                "together, which cannot be cut into so many; give a divisor."
            )
        if not model.causal:
            raise UserError(
                f"finetune.distill_terms: the {who} has model.causal=False; relations are among "
                "the tokens that a causal model sees."
            )
