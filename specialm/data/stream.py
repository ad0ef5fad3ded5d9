"""A stream of windows that is read like a store: index i is its i-th window.

So the training loop reads a pipeline as it reads windows on disk: a step's batch is the next B
windows, and a resumed run asks for a later index, up to where the stream is opened anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from specialm.common.errors import UserError
from specialm.data.sampler import BatchSampler


class Stream:
    """Windows one after the other.

    Args:
      context: L, tokens of a window at most.
      start: the token that stands before every window.
      windows: W, how many are asked for in all.
      open_at: (i) -> the tokens of window i, int [1..L], and of all that follow.
      name: of it, for errors.

    """

    def __init__(
        self,
        context: int,
        start: int,
        windows: int,
        open_at: Callable[[int], Iterator[np.ndarray]],
        name: str,
    ):
        self.context, self.start, self.name = context, start, name
        self._windows, self._open_at = windows, open_at
        self._reader: Iterator[np.ndarray] = iter(())
        self._next = -1  # nothing is open

    def __len__(self) -> int:
        return self._windows

    def batch(self, indices_B: np.ndarray) -> dict[str, np.ndarray]:
        """As `WindowStore.batch`. Rising indices read on; smaller ones open the stream anew.

        Raises:
          UserError: the stream ends before the last of them.

        """
        indices_B = np.asarray(indices_B, np.int64)
        targets_BxL = np.zeros((len(indices_B), self.context), np.int32)
        sizes_B = np.zeros(len(indices_B), np.int64)
        for row in np.argsort(indices_B, kind="stable"):
            window = self._window(int(indices_B[row]))
            targets_BxL[row, : len(window)], sizes_B[row] = window, len(window)
        inputs_BxL = np.full_like(targets_BxL, self.start)
        inputs_BxL[:, 1:] = targets_BxL[:, :-1]
        mask_BxL = np.arange(self.context) < sizes_B[:, None]
        return {"inputs": inputs_BxL, "targets": targets_BxL, "mask": mask_BxL.astype(np.float32)}

    def _window(self, index: int) -> np.ndarray:
        if self._next < 0 or index < self._next:
            self._reader, self._next = self._open_at(index), index
        for window in self._reader:
            self._next += 1
            if self._next > index:
                return window
        raise UserError(f"{self.name}: it ends after {self._next:,} windows.")


@dataclass(frozen=True)
class InOrder:
    """The sampler of a stream: a step takes the windows that follow those of the step before.

    Attributes:
      batch_size: B, windows a step.
      drawn: what the stream's windows were drawn with, whose groups and features these are; None
        if they have none.

    """

    batch_size: int
    drawn: BatchSampler | None = None

    @property
    def num_groups(self) -> int:
        """G, groups of windows that share features."""
        return self.drawn.num_groups if self.drawn else 1

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def features(self, step: int) -> np.ndarray | None:
        """float32 [G, C]: of each group of this step; None if there are none."""
        return self.drawn.features(step) if self.drawn else None
