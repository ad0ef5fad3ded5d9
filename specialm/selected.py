"""Draws from a part of the generic windows that is chosen once, by how like the domain they are.

As importance sampling they aim at one domain and need nothing but its text; no clusters. Planned
are W draws: W / `train.selected_repetitions` windows are chosen, at most as `max_repetitions` lets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ml_collections import ConfigDict

from specialm.common.errors import UserError
from specialm.common.stages import digest
from specialm.data import likeness as likeness_lib
from specialm.data.likeness import Likeness
from specialm.data.sampler import Sampler
from specialm.draws import Draws, Shares, Source, needed

Select = Callable[[Likeness, int, int], np.ndarray]  # (likeness, k, seed) -> windows, int64


def resampled(likeness: Likeness, k: int, seed: int) -> np.ndarray:
    """DSIR: k windows by importance weights, without replacement, anew for each seed."""
    return likeness_lib.gumbel_top_k(likeness.log_weight_N, k, seed)


def of_near_sources(likeness: Likeness, k: int, seed: int) -> np.ndarray:
    """All windows of the sources most like the domain, k at least.

    Raises:
      UserError: there is one source only.
    """
    if len(likeness.sources) < 2:
        raise UserError(
            "source_filter chooses among the sources of the generic text (its files of rows, or "
            f"its folders), but data.generic has one: {', '.join(likeness.sources)}; give it as "
            "several files, or take method=dsir."
        )
    chosen = likeness_lib.nearest_sources(likeness, k)
    return np.flatnonzero(np.isin(likeness.source_N, chosen))


@dataclass(frozen=True)
class Selected(Draws):
    """Windows that are chosen before the training, all of them drawn alike.

    Attributes:
      select: chooses them.
    """

    select: Select = resampled
    aims: ClassVar[bool] = True
    by_likeness: ClassVar[bool] = True
    settings: ClassVar[tuple[str, ...]] = ("train.selected_repetitions",)

    def windows(self, config: ConfigDict, source: Source, seed: int) -> np.ndarray:
        """int64, sorted: the windows that are drawn from."""
        repetitions = config.train.selected_repetitions
        if source.budget.caps:
            repetitions = min(repetitions, source.budget.max_repetitions)
        k = min(source.windows, max(1, int(np.ceil(source.planned / repetitions))))
        return self.select(needed(source.likeness), k, seed)

    def sampler(self, config: ConfigDict, source: Source, seed: int) -> Sampler:
        """See `Draws`."""
        chosen_N = np.zeros(source.windows, np.int32)
        chosen_N[self.windows(config, source, seed)] = 1
        return Sampler(
            source.windows,
            config.train.batch_size,
            seed,
            chosen_N,
            np.array([0.0, 1.0]),
            epoch=source.planned,
        )

    def drawn(self, config: ConfigDict, source: Source, seed: int) -> Shares | None:
        """See `Draws`."""
        count = len(self.windows(config, source, seed))
        return np.array([0.0, 1.0]), np.array([source.windows - count, count])

    def key(self, config: ConfigDict, source: Source, seed: int) -> list[str]:
        """See `Draws`."""
        return [digest(self.windows(config, source, seed)), f"epoch {source.planned}"]
