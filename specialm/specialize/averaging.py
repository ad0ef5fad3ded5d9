"""The average of what is trained over the steps, which is what is validated and kept.

An exponential moving average of the parameters ("Mean teachers", arXiv 1703.01780, section 2): at a
constant learning rate it takes the place of a decay, and needs no number of steps in advance, which
early stopping could not give.

It begins at the initial values, the pretrained model's: where few steps are taken the average lies
between that model and the tuned one, as "Robust fine-tuning" (arXiv 2109.01903) mixes the two.
"""

from typing import Any

import jax
import jax.numpy as jnp

from specialm.training import narrow

# Steps between two of its own: all parameters are read for each, which takes as long as a small
# step where a table is trained by the rows of its batch.
EVERY = 5


class Average:
    """The average by a decay, of a step; 0: what is trained itself."""

    def __init__(self, decay: float):
        self._decay = decay**EVERY
        self._take = jax.jit(self._taken, donate_argnums=0)
        self._mean: Any = None

    def start(self, trained: Any) -> None:
        """Begin at these values, which are copied."""
        if self._decay:
            self._mean = jax.tree.map(jnp.copy, narrow.widened(trained))

    def see(self, step: int, trained: Any) -> None:
        """Take what is trained after so many steps in, if it is the turn of one."""
        if self._decay and step % EVERY == 0:
            self._mean = self._take(self._mean, trained)

    def of(self, trained: Any) -> Any:
        """The average of what is trained, the values after the last step."""
        return self._mean if self._decay else trained

    def _taken(self, mean: Any, trained: Any) -> Any:
        keep = self._decay
        return jax.tree.map(
            lambda old, new: keep * old + (1 - keep) * new, mean, narrow.widened(trained)
        )

    @property
    def saved(self) -> tuple:
        """What a checkpoint has of it: a tuple of one tree, or of none."""
        return (self._mean,) if self._decay else ()

    def like(self, trained: Any) -> tuple:
        """Such a tuple, from an abstract tree of what is trained."""
        if not self._decay:
            return ()

        def wide(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, narrow.WIDE, sharding=leaf.sharding)

        return (jax.tree.map(wide, trained),)

    def go_on(self, saved: tuple) -> None:
        """From such a tuple."""
        self._mean = saved[0] if saved else None
