"""A labelled task learnt with a head, and asked of the body with another model's embeddings:
`specialm transfer`.

Stages: the body and the head tuned on the task with RUN's embeddings as they are; scores of test
sets, with RUN's embeddings and with those of a model that `specialm adapt` made of RUN.
"""

import copy
import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from specialm.common.errors import UserError
from specialm.common.files import write_json, write_text
from specialm.common.stages import Stage, Stages
from specialm.data import sources, task_windows
from specialm.data.labelled import Labelled
from specialm.data.task_windows import TaskWindows
from specialm.data.vocabularies import Vocabulary
from specialm.evaluation.task_metrics import METRICS
from specialm.models import families, tensors, transformer
from specialm.specialize import budget, task_tuning
from specialm.specialize import finetune as finetune_lib
from specialm.training import rates, runs, sharding
from specialm.training.checkpoints import Checkpoints, with_sharding
from specialm.workflows import own_text, stage_keys
from specialm.workflows.initial import Initial
from specialm.workflows.transferring_task import Task

PHASE, RECORD, PREDICTIONS = "task", "task.json", "predictions.jsonl"


@dataclass(frozen=True)
class Tuned:
    """A model with a head, and what it got of test sets.

    Attributes:
      stage: its folder.
      tests: {test set: figures}, with RUN's embeddings.
      swapped: the same with the adapted model's; none without one.
      adapted: that model's folder.
    """

    stage: Stage
    tests: dict[str, dict]
    swapped: dict[str, dict]
    adapted: Path | None

    def to_json(self) -> dict:
        """As JSON has it."""
        found = {"checkpoint": str(self.stage.path), "reused": self.stage.reused}
        found |= {**self.stage.result, "tests": self.tests}
        return found | (
            {"adapted": str(self.adapted), "swapped": self.swapped} if self.adapted else {}
        )

    def text(self) -> str:
        """For people."""
        found = self.stage.result
        of = f"{found['kind']}, {len(found['labels'])} labels" if found["labels"] else found["kind"]
        lines = [
            f"{self.stage.path}: {of}, {found['examples']:,} examples, "
            f"{found['valid_examples']:,} for validation, windows of {found['length']} tokens",
            *_notes("--task", found),
            f"{budget.ending(found)}; {found['valid_nll']:.4f} nats on validation",
        ]
        for name, figures in self.tests.items():
            lines += [f"{name}: {_said(figures)}", *_notes(name, figures)]
        for name, figures in self.swapped.items():
            lines.append(f"{name}, embeddings of {self.adapted}: {_said(figures)}")
            lines += _notes(name, figures)
        return "\n".join(lines)


def _said(figures: dict) -> str:
    low, high = figures["interval"]
    count = f"{figures['examples']:,} examples"
    if "accuracy" in figures:
        return (
            f"accuracy {figures['accuracy']:.3f} [{low:.3f}, {high:.3f}], macro F1 "
            f"{figures['macro_f1']:.3f}; the most frequent label {figures['majority']:.3f}; {count}"
        )
    return (
        f"exact match {figures['exact_match']:.3f} [{low:.3f}, {high:.3f}], F1 "
        f"{figures['f1']:.3f}; {count}"
    )


def _notes(name: str, counts: dict) -> list[str]:
    """What was not read as it was given."""
    said = {
        "left_out": "have no label, or an answer that is not where it says: left out",
        "cut": "did not fit into a window and lost their ends",
        "divided": "have a context that did not fit into a window and is read in several",
        "unseen": "have an answer that none of these has whole",
    }
    return [
        f"  {name}: {counts[key]:,} examples {words}" for key, words in said.items() if counts[key]
    ]


def transfer(
    config: ConfigDict,
    given: set[str],
    base: Initial,
    adapted: Path | None,
    task: Task,
    stages: Stages,
    mesh: jax.sharding.Mesh,
) -> Tuned:
    """Learns the task, and scores its test sets.

    Args:
      given: names of the settings that the user gave.
      adapted: the folder of a model that `specialm adapt` made of `base`.

    Raises:
      UserError: `adapted` was made of another model; see `task_windows.make`.
    """
    model = runs.load(base.path, mesh)
    params, dense = task_tuning.last_head_alone(jax.device_get(model.params), base.config)
    own = Source(dense, params, model.vocabulary, base.key, base.path.resolve().name)
    other = _adapted(adapted, base, params, mesh) if adapted else None
    stage = _tuned(config, given, base, own, task, stages, mesh)

    def scores(source: Source) -> dict[str, dict]:
        size = config.evaluate.batch_size
        return {
            each.spec: _scored(stage, source, task, each, size, stages, mesh) for each in task.tests
        }

    return Tuned(stage, scores(own), scores(other) if other else {}, adapted)


@dataclass(frozen=True)
class Source:
    """Embeddings, with the model and the vocabulary that they are of.

    Attributes:
      key: identifies the model's content.
      name: of its folder.
    """

    config: transformer.Config
    params: Any
    vocabulary: Vocabulary
    key: str
    name: str


def _adapted(path: Path, base: Initial, params: Any, mesh) -> Source:
    """The embeddings of a model whose body is that of `base`, bit for bit.

    Raises:
      UserError: its body is another.
    """
    model = runs.load(path, mesh)
    theirs = jax.device_get(model.params)
    if task_tuning.fingerprint(theirs) != task_tuning.fingerprint(params):
        raise UserError(
            f"--adapted={path}: its body is not that of --from={base.path}; give a model that "
            "`specialm adapt` made of it, and that was not trained any further."
        )
    theirs, config = task_tuning.last_head_alone(theirs, families.dense(model.config))
    key = stage_keys.checkpoint_key(path)
    return Source(config, theirs, model.vocabulary, key, path.resolve().name)


def _windows(examples: Labelled, source: Source, task: Task) -> TaskWindows:
    causal = source.config.causal
    return task_windows.make(
        examples.examples, source.vocabulary, task.longest, causal, task.labels
    )


def _tuned(
    config: ConfigDict,
    given: set[str],
    base: Initial,
    own: Source,
    task: Task,
    stages: Stages,
    mesh: jax.sharding.Mesh,
) -> Stage:
    """The stage in which the body and the head are trained."""
    train, valid = _windows(task.train, own, task), _windows(task.valid, own, task)
    config = _settings(config, given, len(train))
    part = task_tuning.specialist(task.kind, train, valid)
    open_rate = rates.of_open(base.config.d_model) if base.is_open else 0.0
    tune = finetune_lib.for_set(config.train, config.finetune, part, False, open_rate=open_rate)
    limit = budget.limit(config.finetune, len(train))
    inputs = {
        "base": base.key,
        "seed": config.seed,
        "kind": task.kind,
        "labels": task.labels,
        "finetune": stage_keys.settings_in_result(tune),
        "train": stage_keys.settings_in_result(config.train),
        "windows": [train.fingerprint, valid.fingerprint],
    }

    def work(path: Path) -> dict:
        entry = task_tuning.tune(
            path,
            own.config,
            own.params,
            task.kind,
            len(task.labels),
            part,
            config.train,
            tune,
            config.seed,
            mesh,
            f"learning {task.kind}",
        )
        entry |= {"phase": PHASE, "domain": "", "devices": mesh.size, "limit": limit}
        about = {
            "kind": task.kind,
            "labels": list(task.labels),
            "examples": len(task.train.examples),
            "valid_examples": len(task.valid.examples),
            "length": train.context,
            "left_out": task.train.left_out + task.valid.left_out,
            "cut": train.cut + valid.cut,
            "divided": train.divided + valid.divided,
            "unseen": train.unseen + valid.unseen,
        }
        record = {
            **about,
            "model": dataclasses.asdict(own.config),
            "vocabulary_sha256": own.vocabulary.sha256,
            "body": task_tuning.fingerprint(own.params),
            "ledger": [*base.record["ledger"], entry],
        }
        for name, file in own.vocabulary.files.items():
            shutil.copyfile(file, path / name)
        write_json(path / RECORD, record)
        return entry | about

    name = (
        f"tasks/{task.kind}-{sources.resolve_source(task.train.spec, 'task')[0]}-seed{config.seed}"
    )
    return stages.run(name, inputs, work)


def _settings(config: ConfigDict, given: set[str], windows: int) -> ConfigDict:
    """Those of fine-tuning on a text of one's own, where the user gave no others.

    Raises:
      UserError: a setting that tuning to a task has no use for.
    """
    for name in ("lora_rank", "replay_fraction", "quantize_bits"):
        if f"finetune.{name}" in given and config.finetune[name]:
            raise UserError(
                f"finetune.{name}={config.finetune[name]}: transfer trains the whole body on the "
                "task alone; leave it out."
            )
    changed = copy.deepcopy(config).unlock()
    changed.finetune.update(lora_rank=0, replay_fraction=0.0, quantize_bits=0)
    for name, value in own_text.SETTINGS.items():
        section, _, field = name.partition(".")
        if section == "finetune" and name not in given:
            changed[section][field] = value
    if own_text.PACE not in given:
        changed.finetune.eval_every = budget.eval_every(changed.finetune, windows)
    return changed.lock()


def _scored(
    stage: Stage, source: Source, task: Task, test: Labelled, size: int, stages: Stages, mesh
) -> dict:
    """The figures of a test set, with a file of predictions in the folder of their stage."""
    inputs = {
        "task": stage.fingerprint,
        "embeddings": source.key,
        "examples": task_windows.digest(test.examples),
        "longest": task.longest,
    }

    def work(path: Path) -> dict:
        windows, classes = _windows(test, source, task), len(task.labels)
        params = task_tuning.swapped(_load(stage, task, mesh), source.params)
        title = f"asking {source.name}"
        log_p = task_tuning.predict(
            params, source.config, task.kind, classes, windows, size, mesh, title
        )
        given, figures = METRICS[task.kind](log_p, windows, task.labels)
        lines = [json.dumps({"prediction": each}, ensure_ascii=False) + "\n" for each in given]
        write_text(path / PREDICTIONS, "".join(lines))
        counts = {name: getattr(windows, name) for name in ("cut", "divided", "unseen")}
        counts |= {"examples": len(test.examples), "left_out": test.left_out}
        return figures | counts

    name = sources.resolve_source(test.spec, "test")[0]
    scored = stages.run(f"task-scores/{name}-{source.name}", inputs, work)
    return {**scored.result, "predictions": str(scored.path / PREDICTIONS)}


def _load(stage: Stage, task: Task, mesh) -> Any:
    """The tuned model with its head."""
    record = json.loads((stage.path / RECORD).read_text("utf-8"))
    config = families.from_record(families.DENSE, record["model"])
    assert isinstance(config, transformer.Config)
    declared = task_tuning.declare(config, task.kind, len(task.labels))
    where = sharding.shardings(mesh, tensors.logical_axes(declared))
    with Checkpoints(stage.path / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore_finished(with_sharding(tensors.abstract(declared), where))
    assert found is not None, "the stage is finished"
    return jax.device_get(found[1])
