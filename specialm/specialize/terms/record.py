"""What a term of distillation is given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax

from specialm.models import transformer


class Seen(NamedTuple):
    """Of one model, for windows of L tokens.

    Attributes:
      final_TxD: the states that the head reads.
      vectors: queries, keys and values of one layer, [B, L, H, A] or [B, L, J, A].
    """

    final_TxD: jax.Array
    vectors: dict[str, jax.Array]


@dataclass(frozen=True)
class Wanted:
    """What the settings say of terms.

    Attributes:
      weights: of each term.
      layer: of the teacher, counted from 0, whose vectors are compared with the student's last.
      heads: of relations.
    """

    weights: dict[str, float]
    layer: int
    heads: int


@dataclass(frozen=True)
class Term:
    """One line of the table."""

    loss: Callable[[Seen, Seen, int], jax.Array]  # (student, teacher, heads) -> float32 [T]
    # (student, teacher, heads): raises UserError for models that it cannot compare.
    check: Callable[[transformer.Config, transformer.Config, int], None]
