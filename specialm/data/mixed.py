"""Mixing the specialist set into pretraining: a fraction of the drawn windows is specialist text.

The strongest known competitor of the methods here (arXiv 2603.16177): about 1% for small sets, or
only late in the training, else the model overfits. It is one more distribution: the specialist set
is one more cluster, drawn with probability `fraction`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from specialm.common.errors import UserError
from specialm.data.sampler import Sampler
from specialm.data.store import WindowStore


@dataclass(frozen=True)
class Joined:
    """The N windows of a store, then S windows of another; read like one store."""

    generic: WindowStore
    specialist: WindowStore
    specialist_indices: np.ndarray

    def __post_init__(self):
        if self.generic.context != self.specialist.context:
            raise UserError(
                f"the generic windows have {self.generic.context} tokens, the "
                f"specialist ones {self.specialist.context}; prepare both with one "
                "data.context."
            )

    @property
    def context(self) -> int:
        """L, tokens of a window at most."""
        return self.generic.context

    def __len__(self) -> int:
        return len(self.generic) + len(self.specialist_indices)

    def batch(self, indices_B: np.ndarray) -> dict[str, np.ndarray]:
        """As `WindowStore.batch`; index N + i is the i-th specialist window."""
        indices_B = np.asarray(indices_B, np.int64)
        special_B = indices_B >= len(self.generic)
        chosen = self.specialist_indices[indices_B[special_B] - len(self.generic)]
        parts = [self.generic.batch(indices_B[~special_B]), self.specialist.batch(chosen)]
        # The rows of both parts, back into the order of the batch.
        order_B = np.argsort(np.argsort(special_B, kind="stable"), kind="stable")
        return {name: np.concatenate([part[name] for part in parts])[order_B] for name in parts[0]}


def sampler(generic: Sampler, specialist_windows: int, fraction: float) -> Sampler:
    """Draws as `generic` does with probability 1 - fraction, else one of the S windows that come
    after those.

    Raises:
      UserError: no specialist windows.

    """
    if not specialist_windows:
        raise UserError(
            f"train.specialist_fraction={fraction}: the specialist training set has no "
            "windows; raise data.specialist_tokens or set the fraction to 0."
        )
    own = np.full(specialist_windows, len(generic.probability_K))
    return Sampler(
        generic.windows + specialist_windows,
        generic.batch_size,
        generic.seed,
        np.concatenate([generic.cluster_N, own]),
        np.append((1 - fraction) * generic.probability_K, fraction),
    )


@dataclass(frozen=True)
class Late:
    """One sampler up to a step, another from there on."""

    num_groups: ClassVar[int] = 1  # windows share no features

    before: Sampler
    after: Sampler
    first: int  # step of `after`

    @property
    def batch_size(self) -> int:
        """B, windows a step."""
        return self.before.batch_size

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        return (self.before if step < self.first else self.after).indices(step)

    def features(self, step: int) -> None:
        """None: there are none."""


@dataclass(frozen=True)
class Shares:
    """Windows of two samplers in every batch, each in epochs of its own.

    Of B windows so many are of the first that of all that were drawn they are the given fraction,
    rounded: their number in a batch differs by one at most. So a small set is drawn evenly beside
    a large one.
    """

    num_groups: ClassVar[int] = 1  # windows share no features

    first: Sampler
    second: Sampler  # whose windows come after those of `first`
    fraction: float  # of the first
    batch_size: int

    def _drawn(self, step: int) -> int:
        """Windows of the first sampler before this step."""
        return int(np.floor(step * self.batch_size * self.fraction + 0.5))

    def indices(self, step: int) -> np.ndarray:
        """int64 [B]: the windows of this step."""
        start, stop = self._drawn(step), self._drawn(step + 1)
        ends = step * self.batch_size - start, (step + 1) * self.batch_size - stop
        return np.concatenate(
            [self.first.draws(start, stop)[0], self.second.draws(*ends)[0] + self.first.windows]
        )

    def features(self, step: int) -> None:
        """None: there are none."""
