"""The final states of student and teacher: the mean square of their difference.

For models of one width: a map between two widths would be trained and then thrown away. Relations
compare models of any width.
"""

import jax
import jax.numpy as jnp

from specialm.common.errors import UserError
from specialm.models import transformer
from specialm.specialize.terms.record import Seen


def loss(student: Seen, teacher: Seen, heads: int) -> jax.Array:
    """float32 [T]: the mean over the numbers of a state."""
    apart_TxD = student.final_TxD.astype(jnp.float32) - teacher.final_TxD.astype(jnp.float32)
    return jnp.mean(jnp.square(apart_TxD), axis=-1)


def check(student: transformer.Config, teacher: transformer.Config, heads: int) -> None:
    """Raises UserError for models of two widths."""
    if student.d_model != teacher.d_model:
        raise UserError(
            f"finetune.distill_terms: hidden compares states of one width; the student's have "
            f"{student.d_model} numbers, the teacher's {teacher.d_model}. Take value or attention, "
            "which compare models of any width."
        )
