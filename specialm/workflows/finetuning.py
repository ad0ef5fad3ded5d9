"""Fine-tuning a model on a domain's specialist text, as a stage."""

import sys
from dataclasses import dataclass
from pathlib import Path

from specialm import methods
from specialm.common import processes
from specialm.common.stages import Stage
from specialm.models import families
from specialm.specialize import budget, distill
from specialm.specialize import finetune as finetune_lib
from specialm.training import adapters as adapters_lib
from specialm.training import origin, profile, rates, runs
from specialm.workflows import pipeline, replaying, stage_keys
from specialm.workflows.pipeline import Run


@dataclass(frozen=True)
class Teacher:
    """A dense model to distil from: its run folder, and what identifies its content."""

    path: Path
    key: str


def finetune(
    run: Run,
    base: Path,
    domain: str,
    seed: int,
    key: str,
    label: str = "",
    max_steps: int = 0,
    teacher: Teacher | None = None,
) -> Stage:
    """Fine-tunes the dense model in the run folder `base` on a domain.

    Args:
      key: identifies the base model's content.
      label: a part of the stage's name.
      max_steps: instead of `finetune.max_steps`.
      teacher: distil from it, on the same text.

    Raises:
      UserError: another vocabulary than that of the windows, or of the teacher; a setting out of
        range.
    """
    record = runs.read_record(base)
    pipeline.check_vocabulary(run, base, record)
    if teacher:
        distill.check_vocabulary(record, runs.read_record(teacher.path), teacher.path)
    data, stores = run.config.data, run.prepared.domains[domain]
    part, of_base = pipeline.specialist(run, domain), methods.find(record["method"])
    limit = budget.limit(run.config.finetune, len(part.train_indices), max_steps)
    untrained = of_base is not None and not of_base.pretrained
    tune = finetune_lib.for_set(
        run.config.train, run.config.finetune, part, untrained, max_steps, _open_rate(record)
    )
    inputs = {
        "base": key,
        "seed": seed,
        "finetune": stage_keys.settings_in_result(tune, teacher=bool(teacher)),
        "train": stage_keys.settings_in_result(run.config.train),
        "tokens": [data.specialist_tokens, data.valid_tokens],
        "stores": [stores[split].fingerprint for split in ("train", "valid")],
    }
    method = record["method"]
    if teacher:
        inputs["teacher"], method = teacher.key, f"{method}_d"
    adapters = finetune_lib.adapters(tune)
    title = " ".join(filter(None, [method, adapters, label, domain, f"seed {seed}"]))
    draws, notes = None, []
    if tune.replay_fraction:
        drawn = replaying.replayed(run, part, tune, seed, title)
        draws, notes = drawn.draws, drawn.notes
        # Uniform replay is identified as it was before there were other draws.
        inputs["replayed"] = drawn.inputs if len(drawn.inputs) > 1 else drawn.inputs[0]
    name = f"finetuned/{title.replace('seed ', 'seed').replace(' ', '-')}"

    def work(path: Path) -> dict:
        model, ledger = runs.load(base, run.mesh), record["ledger"]
        common = (part, run.config.train, tune, seed, run.mesh)
        dense = families.dense(model.config)
        changed = finetune_lib.adapters_config(dense, tune) if tune.lora_rank else None
        runs.begin(path, method, domain, seed, "finetuned", tune.max_steps)
        if processes.is_first():
            planned = budget.plan(tune, limit, len(part.train_indices))
            for line in (f"fine-tuning {title}: {planned}", *notes):
                print(line, file=sys.stderr, flush=True)
        if teacher:
            taught_by = runs.load(teacher.path, run.mesh)
            ledger = [
                *ledger,
                *({**entry, "model": "teacher"} for entry in taught_by.record["ledger"]),
            ]
            entry = distill.distill(
                path,
                dense,
                model.params,
                families.dense(taught_by.config),
                taught_by.params,
                *common,
                f"distilling {title}",
                draws,
            )
        else:
            entry = finetune_lib.finetune(
                path, dense, model.params, *common, f"fine-tuning {title}", draws
            )
        entry |= {"domain": domain, "devices": run.mesh.size, "limit": limit}
        runs.describe(
            path,
            model.config,
            model.vocabulary,
            method,
            domain,
            seed,
            [*ledger, entry],
            origin.inherited(base, path, run.prepared.generic_splits)
            | adapters_lib.describe(changed, base, path),
        )
        return entry

    stage = run.stages.run(name, inputs, work, on_all=True)
    if stage.reused:
        profile.say_nothing_traced(run.config.train.profile_steps, f"{name} was trained before")
    return stage


def _open_rate(record: dict) -> float:
    """The learning rate of fine-tuning a model from an open checkpoint; 0 for other models."""
    return rates.of_open(record["model"]["d_model"]) if "imported" in record else 0.0
