"""Training a table of which a step reads few rows, at the cost of these rows.

A table of n-grams has many rows, and a batch reads some of them. Gradients, moments and the update
of the others are zeros that a step would read and write all the same. So the step is that of a
model whose table has the rows of its batch alone; then these are put back, with their moments.

Against an optimizer that sees the whole table, the moments of a row that is not read do not fade,
and it neither goes on moving nor decays: the "lazy" Adam of TensorFlow, PyTorch's SparseAdam.
Gradients, their norm and so their clipping are the same.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from specialm.models import quantization, tensors, transformer
from specialm.models.parts import ngram_tables
from specialm.models.parts.embedders import EMBEDDERS
from specialm.models.parts.ngram_tables import CHOSEN, TABLE

EMBED = "embed"


class Whole:
    """All rows: nothing is taken out."""

    def taken(self, tree: Any) -> Any:
        """A tree with tables, and moments of tables, of the rows alone."""
        return tree

    def put_back(self, tree: Any, taken: Any) -> Any:
        """`tree` with the rows of `taken`, and all else that `taken` has."""
        return taken

    def named(self, params: transformer.Params) -> transformer.Params:
        """Parameters taken, with what tells the model which rows it has."""
        return params

    def unnamed(self, grads: transformer.Params) -> transformer.Params:
        """Gradients of what is `named`, of the parameters alone."""
        return grads

    def named_axes(self, axes: tensors.Tree) -> tensors.Tree:
        """Logical axes of what is `named`, from those of the parameters."""
        return axes


@dataclass(frozen=True)
class Touched(Whole):
    """The rows that a batch reads.

    Attributes:
      rows_N: int32, ascending; after them the number of all rows, which is none.
    """

    rows_N: jax.Array

    def taken(self, tree: Any) -> Any:
        """Of tables and their moments the rows that are read."""

        def one(path: tuple, leaf: jax.Array) -> jax.Array:
            return leaf.at[self.rows_N].get(mode="clip") if is_table(path) else leaf

        return jax.tree_util.tree_map_with_path(one, tree)

    def put_back(self, tree: Any, taken: Any) -> Any:
        """The rows in their places."""

        def one(path: tuple, new: jax.Array, old: jax.Array) -> jax.Array:
            return old.at[self.rows_N].set(new, mode="drop") if is_table(path) else new

        return jax.tree_util.tree_map_with_path(one, taken, tree)

    def named(self, params: transformer.Params) -> transformer.Params:
        """With the rows' numbers."""
        chosen_N = self.rows_N.astype(jnp.float32)
        return {**params, EMBED: {**params[EMBED], CHOSEN: chosen_N}}

    def unnamed(self, grads: transformer.Params) -> transformer.Params:
        """Without these."""
        own = {name: grad for name, grad in grads[EMBED].items() if name != CHOSEN}
        return {**grads, EMBED: own}

    def named_axes(self, axes: tensors.Tree) -> tensors.Tree:
        """Of the rows' numbers too."""
        return {**axes, EMBED: {**axes[EMBED], CHOSEN: (None,)}}


def is_table(path: tuple) -> bool:
    """Whether a leaf of parameters, or of what an optimizer keeps, is of a table."""
    return any(getattr(part, "key", None) == TABLE for part in path)


def of(
    config: transformer.Config, inputs_BxL: jax.Array, state: Any, rounded: bool = False
) -> Whole:
    """The rows that a batch reads; all of them if no table is trained, if the batch reads as many
    as there are, or if something is not kept row by row, as factored moments are.

    Args:
      rounded: whether weights are rounded in blocks, which may be of several rows.
    """
    before = EMBEDDERS[config.embedder].before(config)
    kept = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state) if is_table(path)]
    if not before or not kept:
        return Whole()
    count, reads = ngram_tables.count(config), before * inputs_BxL.size
    by_row = all(len(leaf) == count for leaf in kept)
    if reads >= count or not by_row or (rounded and config.d_model % quantization.BLOCK):
        return Whole()
    padded_BxM = jnp.pad(inputs_BxL, ((0, 0), (before, 0)))
    row_N = ngram_tables.rows(padded_BxM, config).reshape(-1)
    return Touched(jnp.unique(row_N, size=reads, fill_value=count))
