"""The branch point: a run's whole state before its learning rate decays, kept in RUN/branch.

Warm-up, a constant rate and a decay at the end (Hu et al., arXiv 2404.06395, section 4): the steps
before the decay are the same for every budget. What goes on from them is, bit for bit, what would
have come of training from the start with the same settings.
"""

import shutil
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from specialm.common import processes
from specialm.common.errors import UserError
from specialm.training import optimizer
from specialm.training.checkpoints import Checkpoints

FOLDER = "branch"


def kept_step(train: ConfigDict, steps: int) -> int:
    """The step, counted from 1, after which a run of so many keeps its state; 0 for none."""
    start = optimizer.decay_start(train, steps)
    return start if train.keep_branch and start < steps else 0


def save(path: Path, step: int, params: Any, rest: Any, record: dict) -> None:
    """Keeps the state of this step of the run in `path`; one that is there already is the same."""
    with Checkpoints(path / FOLDER, keep=1) as kept:
        if step not in kept.steps():
            kept.save(step, params, rest, record)


def step_of(run: Path) -> int:
    """The step that a finished run has kept.

    Raises:
      UserError: it has kept none.
    """
    folder = run / FOLDER
    with Checkpoints(folder, read_only=True) as kept:
        steps = kept.finished_steps()
    if not steps:
        raise UserError(
            f"--branch={run}: no state from before the decay was kept there; train it with "
            "train.keep_branch=True, and a train.decay_fraction below 1."
        )
    return steps[-1]


def restore(run: Path, path: Path, params: Any, rest: Any) -> tuple[int, Any, Any, dict] | None:
    """As `Checkpoints.restore_finished`, of what `run` has kept; its metrics until there go into
    the run folder `path`.

    Raises:
      UserError: it is damaged, or of another model.
    """
    with Checkpoints(run / FOLDER, read_only=True) as kept:
        found = kept.restore_finished(params, rest)

    def copy() -> None:
        path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "metrics.jsonl", path / "metrics.jsonl")

    processes.run_on_first("copying metrics", copy)
    return found
