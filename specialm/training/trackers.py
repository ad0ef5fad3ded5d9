"""Programs that show metrics while a run trains: TensorBoard's files, Weights & Biases.

`metrics.jsonl` has every record whatever is chosen here. A tracker is a class with the methods of
`Tracker` and a line of TRACKERS.
"""

import uuid
from pathlib import Path
from typing import Protocol

from ml_collections import ConfigDict

from specialm.common import extras
from specialm.common.errors import UserError


class Tracker(Protocol):
    """Takes the records of one run."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Takes a record."""

    def close(self) -> None:
        """Ends the run."""


class TensorBoard:
    """Writes RUN/tensorboard; `tensorboard --logdir=WORKDIR` shows all runs of a work folder."""

    def __init__(self, path: Path, train: ConfigDict, settings: dict, resumed_step: int):
        from tensorboardX import SummaryWriter

        # What an earlier session wrote after the step that is resumed is not shown.
        self._writer = SummaryWriter(str(path / "tensorboard"), purge_step=resumed_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Takes a record."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Ends the run."""
        self._writer.close()


class WeightsAndBiases:
    """Sends to the project `train.wandb`, or with WANDB_MODE=offline writes RUN/wandb.

    A run that is resumed goes on under its id, which is kept in RUN/wandb_id.

    Raises:
      UserError: wandb is not installed, or does not start: no login, no network.
    """

    def __init__(self, path: Path, train: ConfigDict, settings: dict, resumed_step: int):
        setting = f"train.wandb={train.wandb!r}"
        wandb = extras.load("wandb", "wandb", setting)
        try:
            self._run = wandb.init(
                project=train.wandb,
                group=path.parent.name,
                name=path.name,
                id=_run_id(path),
                resume="allow",
                config=settings,
                dir=str(path),
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise UserError(
                f"{setting}: Weights & Biases did not start: {error} Run `wandb login`, or set "
                "WANDB_MODE=offline and send the run later with `wandb sync`."
            ) from error
        # Its own steps may only grow; a resumed run writes those after its last checkpoint again.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Takes a record."""
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


def _run_id(path: Path) -> str:
    file = path / "wandb_id"
    if not file.exists():
        file.write_text(uuid.uuid4().hex[:16])
    return file.read_text()


# setting of `train` that asks for it -> what it is
TRACKERS: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def start(path: Path, train: ConfigDict, settings: dict, resumed_step: int) -> list[Tracker]:
    """Starts the trackers that `train` asks for.

    Args:
      path: the run folder.
      train: the settings of pretraining.
      settings: all settings of the run, to be shown with it.
      resumed_step: the step that the run goes on from.

    Raises:
      UserError: one does not start.
    """
    return [
        tracker(path, train, settings, resumed_step)
        for name, tracker in TRACKERS.items()
        if train[name]
    ]
