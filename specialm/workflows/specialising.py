"""One domain's model with its scores: what `specialm specialize` finds."""

from dataclasses import dataclass
from pathlib import Path

from specialm.common.stages import Stage
from specialm.specialize import budget
from specialm.workflows import coverage, experts, heldout
from specialm.workflows.finetuning import Teacher
from specialm.workflows.pipeline import Run


@dataclass(frozen=True)
class Specialised:
    """A domain's model.

    Attributes:
      base: what it was made from.
      stage: the model, fine-tuned unless `finetune.max_steps` is 0.
      expert: the one of a bank or a mixture that it was made from; None for a dense model.
      before: {set: its figures before fine-tuning}; None if it was not fine-tuned.
      heldout: what `heldout.evaluate` found.
      sets: what `coverage.sets` found.
    """

    base: Path
    stage: Stage
    expert: Stage | None
    before: dict | None
    heldout: dict
    sets: dict

    def to_json(self) -> dict:
        """As JSON has it."""
        return {
            "checkpoint": str(self.stage.path),
            "base": str(self.base),
            "reused": self.stage.reused,
            **self.stage.result,
            "before": self.before,
            "heldout": self.heldout,
            "sets": self.sets,
        }

    def text(self) -> str:
        """For people."""
        summary = "a dense model, not fine-tuned"
        if self.before is not None:
            valid = f"validation {self.stage.result['valid_nll']:.3f} nats per token"
            summary = f"{budget.ending(self.stage.result)}; {valid}"
        tables = (*coverage.lines(self.sets), "", heldout.table(self.heldout, self.before))
        return "\n".join([f"{self.stage.path}: {summary}", *tables])


def specialise(run: Run, base: Path, key: str, teacher: Teacher | None = None) -> Specialised:
    """Takes the domain's expert, if there are several, fine-tunes it and scores it.

    Args:
      run: its `config.domain` is the domain.
      key: identifies the content of `base`.
      teacher: to distil from.

    Raises:
      UserError: see `experts.specialize` and `experts.take`.
    """
    config, scored, before = run.config, heldout.sets(run), None
    domain = config.domain
    if config.finetune.max_steps:
        stage = experts.specialize(run, base, domain, config.seed, key, teacher)
        expert = experts.taken(run, base, domain, key, stage)
        dense = (expert.path, expert.fingerprint) if expert else (base, key)
        before = heldout.scores(run, *dense, scored)
    else:
        stage = expert = experts.take(run, base, domain, key)
    report = heldout.evaluate(run, stage.path, scored, stage.fingerprint, stage.path.name)
    return Specialised(base, stage, expert, before, report, coverage.sets(run))
