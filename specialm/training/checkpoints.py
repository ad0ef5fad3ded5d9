"""Checkpoints: the one file that knows orbax.

A checkpoint step holds `params`, `rest` (step counter and optimiser state) and `record` (JSON), so
that parameters can be read alone. Saving is asynchronous. An unreadable step (a job killed while
writing, a truncated file) is passed over with a warning for the one before it. Several processes
save and restore together, each its part of the arrays.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from specialm.common import processes
from specialm.common.errors import UserError

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every file at INFO
log = logging.getLogger("specialm")


class Checkpoints:
    """The checkpoints in one folder; the newest `keep` steps stay."""

    def __init__(self, path: Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, enable_async_checkpointing=True
        )
        self.path = Path(path).absolute()
        self._manager = ocp.CheckpointManager(self.path, options=options)

    def save(self, step: int, params: Any, rest: Any, record: dict) -> None:
        """Starts saving; returns as soon as the arrays are copied."""
        parts = {"params": ocp.args.StandardSave(params), "record": ocp.args.JsonSave(record)}
        if rest is not None:
            parts["rest"] = ocp.args.StandardSave(rest)
        self._manager.save(step, args=ocp.args.Composite(**parts))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        """Leaves when all that was saved is on disk, also after an error."""
        self._manager.wait_until_finished()
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore(self, params: Any, rest: Any = None) -> tuple[int, Any, Any, dict] | None:
        """(step, params, rest, record) of the newest readable step; None if there is none.

        Args:
          params, rest: abstract trees (ShapeDtypeStruct with shardings); `rest` None reads the
            parameters alone.

        Raises:
          UserError: there are steps but none can be read (damaged, or of other sizes).
        """
        parts = {"params": ocp.args.StandardRestore(params), "record": ocp.args.JsonRestore()}
        if rest is not None:
            parts["rest"] = ocp.args.StandardRestore(rest)
        steps = processes.run_on_first("steps of a checkpoint", self.steps)
        for step in reversed(steps):
            found: Any = None
            failed = ""
            try:
                found = self._manager.restore(step, args=ocp.args.Composite(**parts))
            except Exception as error:  # orbax raises many kinds for a damaged step
                failed = str(error).split("\n")[0][:200] or type(error).__name__
            # A part may be damaged that only some processes read.
            failures = processes.run_on_all("restoring", partial(str, failed))
            if not any(failures):
                return step, found["params"], found.get("rest"), found["record"]
            if processes.is_first():
                log.warning(
                    "%s: step %d cannot be read (%s); trying the one before it.",
                    self.path,
                    step,
                    next(filter(None, failures)),
                )
        if steps:
            raise UserError(
                f"{self.path}: none of the steps {steps} can be read by this "
                "model; use its own config, or move the folder away to start again."
            )
        return None


def with_sharding(abstract: Any, shardings: Any) -> Any:
    """An abstract tree whose leaves say where they are to be restored."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        abstract,
        shardings,
    )
