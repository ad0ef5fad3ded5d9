"""A run that diverges ends at once: at its first loss or gradient that is not finite.

Nothing after that step means anything, and no checkpoint is saved after it.

    RUN/divergence.json   the step, its learning rate, loss, gradient norm and the windows of its
                          batch, and the newest checkpoint before it
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.common.files import write_json
from specialm.training.checkpoints import Checkpoints

NAME = "divergence.json"


class DivergedError(UserError):
    """A loss or a gradient is not finite."""


@dataclass(frozen=True)
class Watch:
    """Looks at the metrics of each step.

    Attributes:
      path: the run folder.
      rate: step, counted from 0 -> its learning rate.
      windows: step, counted from 0 -> the windows of its batch.
      checkpoints: those of the run.
      remedy: which settings to change.

    """

    path: Path
    rate: Callable[[int], float]
    windows: Callable[[int], np.ndarray]
    checkpoints: Checkpoints
    remedy: str

    def see(self, number: int, values: dict[str, float]) -> None:
        """Look at the metrics of step `number`, counted from 1.

        Raises:
          DivergedError: one is not finite.

        """
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        saved = max(self.checkpoints.steps(), default=0)
        rate = float(self.rate(number - 1))
        if processes.is_first():
            write_json(
                self.path / NAME,
                {
                    "step": number,
                    "learning_rate": rate,
                    "windows": [int(window) for window in self.windows(number - 1)],
                    "checkpoint": saved,
                    **{name: _plain(value) for name, value in values.items()},
                },
            )
        what = " and ".join(f"{name} {values[name]}" for name in bad)
        raise DivergedError(
            f"{self.path}: step {number} diverged ({what}, learning rate {rate:.3g}); "
            f"{self.remedy}. {NAME} there names the windows of the step. The same command replays "
            f"it from step {saved}."
        )

    def over(self) -> None:
        """The run ended well: what an earlier attempt wrote does not hold any more."""
        if processes.is_first():
            (self.path / NAME).unlink(missing_ok=True)


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
