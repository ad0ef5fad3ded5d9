"""What `specialm adapt` made, for people and as JSON."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from specialm.common.stages import Stage
from specialm.specialize import budget
from specialm.workflows.pipeline import Run

LIMIT = "--tokens="


@dataclass(frozen=True)
class Adapted:
    """A model with its new vocabulary, beside the one that it was made from.

    Attributes:
      stage: the run folder.
      run: the target text cut with the new vocabulary.
      before, after: scores on the same held-out documents, see `pipeline.score_heldout`.
    """

    stage: Stage
    run: Run
    before: Any
    after: Any

    @property
    def tokens_saved(self) -> float:
        """The share of tokens that the held-out text no longer takes."""
        return 1 - self.after.tokens / self.before.tokens

    def to_json(self) -> dict:
        """As JSON has it."""
        scores = {
            name: dataclasses.asdict(score) | {"bits_per_byte": score.bits_per_byte}
            for name, score in (("before", self.before), ("after", self.after))
        }
        about = {"checkpoint": str(self.stage.path), "reused": self.stage.reused}
        return {**about, **self.stage.result, "tokens_saved": self.tokens_saved, **scores}

    def text(self) -> str:
        """For people."""
        found, before, after = self.stage.result, self.before, self.after
        fewer = f"{self.tokens_saved:.1%} fewer" if self.tokens_saved >= 0 else "more"
        lines = [
            f"{self.stage.path}: {found['via']}, rows by {found['init']}, "
            f"{found['vocabulary_size']:,} tokens",
            f"held-out text of {after.bytes:,} bytes: {before.tokens:,} tokens before, "
            f"{after.tokens:,} now ({fewer})",
            f"bits per byte: {before.bits_per_byte:.4f} before, {after.bits_per_byte:.4f} now",
            f"cost: {found['flops']:.3g} FLOPs for this text, {found['one_off_flops']:.3g} once "
            "for all",
        ]
        if not found["causal"]:
            every = self.run.config.evaluate.hidden_every
            how = f"one token in {every} hidden at once" if every else "each token hidden by itself"
            lines.append(f"bits are of the pseudo-likelihood: {how}")
        if found["steps"]:
            lines.insert(1, _ending(found))
        return "\n".join(lines)


def _ending(found: dict) -> str:
    """How the training of rows ended, for people."""
    if not found["limit"].startswith(LIMIT) or found["steps"] < found["max_steps"]:
        return budget.ending(found)
    return f"best after {found['best_step']:,} of {found['steps']:,} steps ({found['limit']})"
