"""`specialm train --branch=RUN`: whether another run has the same beginning as this one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from specialm.common import files, manifest, processes, stages
from specialm.common.errors import UserError
from specialm.training import branch, dropout, loop, optimizer

FREE = ("tokens", "schedule", "decay_fraction", "final_fraction")  # settings that may differ
# Of which the beginning depends on how many steps there will be.
OF_STEPS = ("importance_start", "specialist_start", "valid_every")


def check(run: Path, inputs: dict, train: ConfigDict, context: int) -> None:
    """Raises UserError if the run `run` is no beginning of the one with these inputs.

    Args:
      inputs: what the stage of pretraining depends on.
      train: its settings.
      context: tokens of a window.
    """
    step = branch.step_of(run)
    if not (run / manifest.STAGE).is_file():
        raise UserError(f"--branch={run}: was not pretrained here; give the folder of `train`.")
    theirs = stages.read_stage(run)["inputs"]
    different = sorted(_differences(theirs, inputs))
    if different:
        raise UserError(
            f"--branch={run}: was trained with other {', '.join(different)}; only "
            f"{', '.join(f'train.{name}' for name in FREE)} may differ."
        )
    own = {name: train[name] for name in OF_STEPS if train[name]}
    if own:
        raise UserError(f"--branch={run}: cannot be with {own}, which counts from the end.")
    steps = loop.num_steps(train, context)
    before = ConfigDict({**train.to_dict(), **theirs["train"]})
    ours, other = (
        _rates(settings, loop.num_steps(settings, context), min(step, steps))
        for settings in (train, before)
    )
    if step > steps or not np.array_equal(ours, other):
        start = optimizer.decay_start(train, steps)
        raise UserError(
            f"--branch={run}: has kept its step {step:,}; this run of {steps:,} steps decays from "
            f"step {start:,} on and has other rates (of learning or dropout) before that one: give "
            "more train.tokens or a smaller train.decay_fraction."
        )


def _differences(theirs: dict, ours: dict) -> set[str]:
    def flat(inputs: dict) -> dict[str, Any]:
        train = {f"train.{name}": value for name, value in inputs["train"].items()}
        free = {f"train.{name}" for name in FREE}
        both = train | {name: value for name, value in inputs.items() if name != "train"}
        return {name: value for name, value in both.items() if name not in free}

    a, b = flat(theirs), flat(json.loads(files.to_json(ours)))
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


def _rates(train: ConfigDict, steps: int, count: int) -> np.ndarray:
    """[2, count]: learning rate and dropout of the first steps."""
    drops = [dropout.rate(train, step, steps) for step in range(count)]
    return np.stack([np.asarray(optimizer.schedule(train, steps)(np.arange(count))), drops])


def say_nothing_kept(train: ConfigDict, path: Path) -> None:
    """Says that a run which was trained before has not kept its state, if it is asked to."""
    if train.keep_branch and not (path / branch.FOLDER).is_dir():
        processes.tell(
            f"{path} was trained before, without train.keep_branch: no state of it is kept. Move "
            "the folder away to train it again."
        )
