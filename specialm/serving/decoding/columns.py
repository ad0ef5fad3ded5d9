"""Where texts lie on the device: rows, columns and how many of each there are."""

import jax
import numpy as np

from specialm.models import decoder
from specialm.models.config import Config
from specialm.serving.decoding import programs
from specialm.serving.decoding.programs import STEPS, State

ROW_SIZES = (1, 4, 16, 64)
LEAST_COLUMNS = 128
ROOM = 128  # columns ahead that are reserved at a time, or as many as there are texts to keep
LEAST_READ = 16  # tokens of the shortest shape that prompts are read in


def rows_for(count: int, most: int) -> int:
    """The fewest rows of a shape that hold `count` texts, at most `most`."""
    return next((size for size in ROW_SIZES if count <= size < most), most)


def read_length(count: int, context: int) -> int:
    """The length of the shape that a prompt of `count` tokens is read in."""
    return min(max(LEAST_READ, _power(count)), context)


def _power(count: int) -> int:
    return 1 << (count - 1).bit_length()


class Columns:
    """The cache of an engine. It grows and shrinks to what its texts need.

    Attributes:
      state: on the device.
      rows: how many there are.
      next: the column that the next step writes.
      count: columns.
    """

    def __init__(self, config: Config):
        self._config = config
        self.state, self.rows, self.next, self.count = State(decoder.Caches(), None), 0, 0, 0

    def fits(self, rows: int, before: int, ahead: int) -> bool:
        """Whether there are so many rows, columns before the next one, and columns from it on."""
        return self.rows == rows and before <= self.next and self.next + ahead <= self.count

    def reshape(self, kept: list[int], rows: int, before: int, ahead: int) -> None:
        """Keeps these rows, as the first ones.

        Args:
          rows: how many there are then.
          before: columns that are needed before the next one.
          ahead: steps that are still to come; room is made for some of them.
        """
        count = max(LEAST_COLUMNS, _power(before + max(STEPS, min(ahead, max(before, ROOM)))))
        if not kept and (rows, count) != (self.rows, self.count):
            self.state = State(decoder.init_caches(self._config, rows, count), None)
        elif kept:
            row_B = np.zeros(rows, np.int32)
            row_B[: len(kept)] = kept
            shift = np.int32(before - self.next)
            self.state = programs.moved(self.state, row_B, shift, count, self._config)
        self.rows, self.next, self.count = rows, before, count

    @property
    def bytes(self) -> int:
        """Of the cache on the device."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))
