"""Checkpoints: the one file that knows orbax.

A checkpoint step holds `params`, `rest` (step counter and optimiser state) and `record` (JSON), so
that parameters can be read alone, and a manifest of its files, written into it before it gets its
name. Saving is asynchronous. Several processes save and restore together, each its part of the
arrays.

Training that goes on from a damaged step would end as another run: such a step is moved aside to
`NAME.damaged/`, with a warning, and the one before it is taken. Reading a finished run never does
that: it refuses.
"""

import json
import logging
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from specialm.common import disk, manifest, processes
from specialm.common.errors import UserError
from specialm.common.files import flush, remove_folder

for _library in ("absl", "asyncio"):  # orbax reports every file at INFO, and its errors twice
    logging.getLogger(_library).setLevel(logging.CRITICAL)
log = logging.getLogger("specialm")


def _hide_echoes() -> None:
    """Hide what follows the first error of a save or a read, which is raised.

    Orbax closes its event loop at that error; tensorstore's other reads and writes then fail to
    report to the loop, each with a traceback.
    """
    before = sys.unraisablehook

    def hook(found) -> None:
        if str(found.exc_value) != "Event loop is closed":
            before(found)

    sys.unraisablehook = hook


_hide_echoes()

TEMPORARY = ".orbax-checkpoint-tmp"
LATER = ("_CHECKPOINT_METADATA", "commit_success.txt")  # orbax writes times there after `_seal`
RECORD, VERIFIED = "record", "verified"


class Checkpoints:
    """The checkpoints in one folder.

    Args:
      path: the folder.
      keep: the newest steps that stay; 0 for all.
      read_only: nothing is written, moved or created.

    """

    def __init__(self, path: Path, keep: int = 2, read_only: bool = False):
        self.path = Path(path).absolute()
        self._read_only, self._keep, self._saving = read_only, keep, -1
        self._sums: dict[int, jax.Array] = {}
        if not read_only:
            processes.run_on_first("clearing checkpoints", self._clear)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep or None,
            create=not read_only,
            read_only=read_only,
            enable_async_checkpointing=not read_only,
            async_options=None
            if read_only
            else ocp.options.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._manager = ocp.CheckpointManager(self.path, options=options)

    def _clear(self) -> None:
        """Remove what a killed save or removal left, which has no name of a step."""
        for pattern in (f"*{TEMPORARY}*", "*.tmp"):
            for left in self.path.glob(pattern):
                shutil.rmtree(left)

    def save(self, step: int, params: Any, rest: Any, record: dict) -> None:
        """Starts saving; returns as soon as the arrays are copied.

        Raises:
          UserError: newer steps are there already; the disk is full.
        """
        record = {RECORD: record, VERIFIED: True}
        parts = {"params": ocp.args.StandardSave(params), RECORD: ocp.args.JsonSave(record)}
        if rest is not None:
            parts["rest"] = ocp.args.StandardSave(rest)
        self.wait()
        self._saving = step
        with disk.writing(self.path / str(step)):
            saved = self._manager.save(step, args=ocp.args.Composite(**parts))
        if not saved:
            raise UserError(
                f"{self.path}: step {step} was not saved, for there are newer ones: "
                f"{self.steps()}; move those away that do not belong to this run."
            )
        self._sums = {step: _sum(params)}

    def _seal(self) -> None:
        """Write the manifest of the step that is being saved, before it gets its name."""
        (folder,) = self.path.glob(f"{self._saving}{TEMPORARY}*")
        manifest.write(folder, {"step": self._saving}, LATER)

    def wait(self) -> None:
        """Wait until all that was saved is on the disk.

        Raises:
          UserError: the disk is full.
        """
        with disk.writing(self.path):
            self._manager.wait_until_finished()
        if self._saving >= 0 and processes.is_first():
            flush(self.path)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, failed, *_) -> None:
        """Leaves when all that was saved is on disk, also after an error."""
        try:
            self.wait()
            self._manager.close()
        except Exception:
            if failed is None:
                raise

    def steps(self) -> list[int]:
        """The steps that have a folder, the oldest first."""
        names = os.listdir(self.path) if self.path.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def restore(self, params: Any, rest: Any = None) -> tuple[int, Any, Any, dict] | None:
        """(step, params, rest, record) of the newest step to go on from; None if there is none.

        Damaged steps that are newer are moved aside, with a warning.

        Args:
          params, rest: abstract trees (ShapeDtypeStruct with shardings); `rest` None reads the
            parameters alone.

        Raises:
          UserError: there are steps but none can be read (damaged, or of another model).
        """
        damaged: dict[int, str] = {}
        steps = processes.run_on_first("steps of a checkpoint", self.steps)
        for step in reversed(steps):
            problem = self._damage(step)
            if not problem:
                found = self._load(step, params, rest)
                processes.run_on_first("moving steps", partial(self._move_aside, damaged, step))
                self._manager.reload()
                return found
            damaged[step] = problem
        if steps:
            newest = max(damaged)
            raise UserError(
                f"{self.path}: none of the steps {steps} can be read; restore one from a copy, or "
                f"move the folder away to start again. Step {newest}: {damaged[newest]}"
            )
        return None

    def restore_finished(self, params: Any, rest: Any = None) -> tuple[int, Any, Any, dict] | None:
        """The same of a run that is not to be changed: of its last step.

        Raises:
          UserError: that step is damaged.
        """
        steps = processes.run_on_first("steps of a checkpoint", self.finished_steps)
        if not steps:
            return None
        problem = self._damage(steps[-1])
        if problem:
            raise UserError(
                f"{self.path / str(steps[-1])}: cannot be read: {problem} This is the step that "
                f"the run ended with, so no other is taken for it: restore it from a copy, or "
                f"remove {self.path.parent / manifest.STAGE}: the command that trained it then "
                "goes on from the step before."
            )
        return self._load(steps[-1], params, rest)

    def finished_steps(self) -> list[int]:
        """The steps of a finished run, as its manifest has them; of one at work, those there are.

        Raises:
          UserError: the manifest is damaged.
        """
        listed = manifest.read(self.path.parent)
        if listed is None:
            return self.steps()
        prefix = f"{self.path.name}/"
        names = {name.split("/")[1] for name in listed["files"] if name.startswith(prefix)}
        steps = sorted(int(name) for name in names if name.isdecimal())
        strays = sorted(set(self.steps()) - set(steps))
        if strays:
            processes.tell(f"{self.path}: steps {strays} are not of this run and are left out.")
        return steps

    def read_back(self, step: int, params: Any) -> None:
        """Read a saved step from the disk, and compare it with what was saved in this process.

        Args:
          params: arrays of the shapes, and with the shardings, of its parameters.

        Raises:
          UserError: it cannot be read, or is something else.
        """
        self.wait()
        problem = self._damage(step)
        if not problem:
            found = self._load(step, jax.tree.map(_abstract, params))
            if step in self._sums and int(_sum(found[1])) != int(self._sums[step]):
                problem = "it holds other parameters than those that were saved."
        if problem:
            raise UserError(
                f"{self.path / str(step)}: was saved but cannot be read back: {problem} Look at "
                "the disk; the same command goes on from the step before."
            )

    def require(self, step: int) -> None:
        """Raise UserError if a step that is needed to go on is missing or damaged."""
        problem = self._damage(step)
        if problem:
            raise UserError(
                f"{self.path / str(step)}: is needed to go on, but: {problem} Restore it from a "
                f"copy, or remove {self.path.parent} to start again."
            )

    def trim(self) -> None:
        """Remove steps but the newest that stay: who was killed after a save may not have."""
        self.wait()
        processes.run_on_first(
            "removing steps", lambda: self._remove(set(self.steps()[-self._keep :]))
        )
        self._manager.reload()

    def keep_only(self, steps: set[int]) -> None:
        """Remove all other steps."""
        self.wait()
        processes.run_on_first("removing steps", partial(self._remove, steps))
        self._manager.reload()

    def _remove(self, kept: set[int]) -> None:
        for step in set(self.steps()) - kept:
            remove_folder(self.path / str(step))

    def _damage(self, step: int) -> str:
        """Why a step is not as it was saved, or "", in all processes alike."""
        problems = processes.run_on_all("verifying", partial(self._verify, step))
        return next(filter(None, problems), "")

    def _load(self, step: int, params: Any, rest: Any = None) -> tuple[int, Any, Any, dict]:
        """A step that is not damaged.

        Raises:
          UserError: it is of another model.
        """
        parts = {"params": ocp.args.StandardRestore(params), RECORD: ocp.args.JsonRestore()}
        if rest is not None:
            parts["rest"] = ocp.args.StandardRestore(rest)
        found: Any = None
        failed = ""
        try:
            found = self._manager.restore(step, args=ocp.args.Composite(**parts))
        except Exception as error:  # orbax raises many kinds
            failed = str(error).split("\n")[0][:200] or type(error).__name__
        # A part may not be there that only some processes read.
        failures = processes.run_on_all("restoring", partial(str, failed))
        if any(failures):
            raise UserError(
                f"{self.path / str(step)}: cannot be read by this model; use its own config, or "
                f"move the folder away to start again. ({next(filter(None, failures))})"
            )
        record = found[RECORD]
        return step, found["params"], found.get("rest"), record.get(RECORD, record)

    def _verify(self, step: int) -> str:
        """Why a step is not as it was saved, or ""; each process reads a part of its files."""
        folder = self.path / str(step)
        try:
            listed = manifest.read(folder)
            if listed is None:
                return self._verify_old(folder)
            if listed.get("step") != step:
                return f"it is a copy of step {listed.get('step')}."
            for number, (name, (size, digest)) in enumerate(sorted(listed["files"].items())):
                if number % processes.count() == processes.index():
                    manifest.check_file(folder, name, size, digest)
        except UserError as error:
            return str(error)
        return ""

    def _verify_old(self, folder: Path) -> str:
        """Of a step without a manifest: whether an earlier version, which wrote none, wrote it."""
        try:
            record = json.loads((folder / RECORD / "metadata").read_text())
        except (OSError, ValueError):
            return "it is not complete."
        if VERIFIED in record:
            return f"{manifest.NAME} is missing."
        processes.tell(f"{folder}: an earlier version wrote it, so it cannot be verified.")
        return ""

    def _move_aside(self, damaged: dict[int, str], taken: int) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        for step, problem in sorted(damaged.items()):
            aside.mkdir(exist_ok=True)
            number = sum(1 for path in aside.iterdir() if path.name.split(".")[0] == str(step))
            target = aside / (f"{step}.{number}" if number else str(step))
            os.rename(self.path / str(step), target)
            log.warning(
                "%s: step %d cannot be read: %s It lies in %s now; going on from step %d.",
                self.path,
                step,
                problem,
                target,
                taken,
            )


def _abstract(array: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct:
    sharding = getattr(array, "sharding", None)  # an array of NumPy has none
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


@jax.jit
def _sum(tree: Any) -> jax.Array:
    """uint32: the sum of all bits of a tree, in words of their own size, modulo 2^32."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(tree):
        words = jax.lax.bitcast_convert_type(leaf, f"uint{8 * np.dtype(leaf.dtype).itemsize}")
        total = total * 31 + jnp.sum(words.astype(jnp.uint32), dtype=jnp.uint32)
    return total


def with_sharding(abstract: Any, shardings: Any) -> Any:
    """An abstract tree whose leaves say where they are to be restored."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        abstract,
        shardings,
    )
