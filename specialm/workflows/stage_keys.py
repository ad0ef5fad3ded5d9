"""What stage keys are built of: the settings, sizes and checkpoints that a result depends on."""

import copy
import dataclasses
import json
from pathlib import Path

from ml_collections import ConfigDict

from specialm import methods
from specialm.common import manifest, processes
from specialm.common import stages as stages_lib
from specialm.models import families
from specialm.training import runs, trackers

# Settings that change no result.
NOT_IN_RESULT = {
    "log_every",
    "checkpoint_every",
    "profile_steps",
    "microbatch",
    "keep_branch",
    "feed",  # one of the user's own is in the key by its content
    *trackers.TRACKERS,
}


def settings_in_result(part: ConfigDict, used: tuple[str, ...] = (), teacher: bool = False) -> dict:
    """The settings that a result depends on.

    Args:
      part: `train` or `finetune`.
      used: those that only some methods have a use for, of the method (`Method.settings`).
      teacher: whether there is one.
    """
    of_methods = {name for record in methods.METHODS.values() for name in record.settings}
    unused = {name.partition(".")[2] for name in of_methods.difference(used)}
    unused |= {*NOT_IN_RESULT, "importance_start"}  # the latter is in the key of the draws
    unused.add("init_learning_rate")  # it is the learning rate itself
    settings = copy.deepcopy(part.to_dict())
    dtypes = ("moment_dtype", "second_moment_dtype", "param_dtype")
    unused |= {name for name in dtypes if settings.get(name) == "float32"}
    if settings.get("table_multiplier") == 1:
        unused.add("table_multiplier")
    if settings.get("bank_every") == 1:
        unused.add("bank_every")
    if not settings.get("lora_rank", 0):
        unused |= {"lora_rank", "lora_alpha", "lora_matrices", "lora_targets", "dora"}
    elif settings["lora_targets"]:
        unused.add("lora_matrices")
    else:
        unused.add("lora_targets")
    if not settings.get("dora"):
        unused.add("dora")
    if not settings.get("specialist_fraction", 0):
        unused |= {"specialist_fraction", "specialist_start"}
    if not settings.get("replay_fraction", 0):
        unused |= {"replay_fraction", "replay_draws"}
    elif settings.get("replay_draws") == "uniform":
        unused.add("replay_draws")
    if not settings.get("average"):
        unused.add("average")
    if "valid_every" in settings and not settings["valid_every"]:
        unused |= {"valid_every", "patience"}
    if not settings.get("dropout"):
        unused |= {"dropout", "dropout_schedule", "dropout_fraction"}
    elif settings["dropout_schedule"] == "constant":
        unused.add("dropout_fraction")
    if not settings.get("quantize_bits"):
        unused |= {"quantize_bits", "quantize_from"}
    if not teacher:
        unused |= {"distill_weight", "distill_temperature", "distill_top_k"}
    if not teacher or not settings.get("distill_terms"):
        unused |= {"distill_terms", "distill_heads", "distill_layer"}
    return {name: value for name, value in settings.items() if name not in unused}


def sizes_of(config: families.Config) -> dict:
    """The sizes of a model as JSON, without how it is computed."""
    sizes = json.loads(json.dumps(dataclasses.asdict(config)))
    del sizes.get("model", sizes)["attention"]
    return sizes


def checkpoint_key(path: Path) -> str:
    """Identifies a model on disk: by its stage, or by its record and the step it has reached."""
    return processes.run_on_first("identifying a checkpoint", lambda: _checkpoint_key(path))


def _checkpoint_key(path: Path) -> str:
    if (path / "stage.json").exists():
        return stages_lib.fingerprint(stages_lib.read_stage(path)["inputs"])
    record, steps = runs.read_record(path), {}
    for saved in sorted((path / "checkpoints").glob("[0-9]*")):
        listed = manifest.read(saved)
        steps[saved.name] = listed and listed["files"]
    return stages_lib.fingerprint({"model": record, "steps": steps})
