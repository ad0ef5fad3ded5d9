"""What early stopping remembers, and the checkpoints that it keeps."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from specialm.models import transformer
from specialm.specialize import tuning_step
from specialm.specialize.averaging import Average
from specialm.specialize.tuning_step import ParameterMap
from specialm.training import step
from specialm.training.checkpoints import Checkpoints
from specialm.training.metrics import MetricsWriter


@dataclass(frozen=True)
class Validation:
    """What early stopping judges a model by.

    Attributes:
      nll: parameters -> nats, of a token or of an example; less is better.
      flops: of computing it once.
    """

    nll: Callable[[Any], float]
    flops: float


@dataclass
class Progress:
    """What early stopping has to remember; saved with each checkpoint."""

    step: int = 0
    best_step: int = 0
    best_nll: float = float("inf")  # what `Validation.nll` gave
    worse: int = 0  # evaluations since the best one
    seconds: float = 0.0
    judged: int = -1  # the step that was evaluated last
    evaluations: int = 0
    losses: list[float] = field(default_factory=list)  # of the steps since then
    loss: float | None = None  # their mean, at the last evaluation
    metrics: list | None = None  # see `MetricsWriter.state`


class Kept:
    """The checkpoints of a fine-tuning: the best step, and the latest to go on from.

    The best step that the latest one knows stays until a later one is on the disk: a resumed
    attempt may take another course (on other devices) and never see what the killed one found.
    """

    def __init__(
        self, best: Checkpoints, latest: Checkpoints, validation: Validation, average: Average
    ):
        self.best, self.latest, self.validation = best, latest, validation
        self.average = average
        self._known: set[int] = set()  # the best step, as the latest one on the disk has it

    def start(self, trained: ParameterMap, tx, mesh) -> tuple[step.TrainState, Progress]:
        """A fresh state, or the latest.

        Raises:
          UserError: the best step so far is not there any more.
        """
        abstract = tuning_step.abstract_state(trained, tx, mesh)
        rest = (abstract.step, abstract.optimizer, *self.average.like(abstract.params))
        found = self.latest.restore(abstract.params, rest)
        if found is None:
            self.best.keep_only(set())
            state = tuning_step.init_state(trained, tx, mesh)
            self.average.start(state.params)
            return state, Progress()
        number, restored, (count, moments, *mean), record = found
        self.average.go_on(tuple(mean))
        done = Progress(**{"judged": number, **record})
        self._known = {done.best_step}
        self.best.keep_only(self._known)
        self.best.require(done.best_step)
        return step.TrainState(count, restored, moments), done

    def judge(
        self, done: Progress, valid: float, params: transformer.Params, adapters: Any = None
    ) -> None:
        """Take the parameters for the best if they are.

        Args:
          adapters: that they follow from, saved beside; None without any.
        """
        done.judged = done.step
        done.evaluations += 1
        if valid >= done.best_nll:
            done.worse += 1
            return
        done.best_nll, done.best_step, done.worse = valid, done.step, 0
        self.latest.wait()
        self.best.keep_only(self._known)
        self.best.save(done.step, params, adapters, {"valid_nll": valid})

    def save(self, done: Progress, state: step.TrainState, metrics: MetricsWriter) -> None:
        """Save the state to go on from."""
        self.best.wait()  # what it refers to is there before it is
        done.metrics = metrics.state()
        rest = (state.step, state.optimizer, *self.average.saved)
        self.latest.save(done.step, state.params, rest, asdict(done))
        self._known = {done.best_step}

    def end(self, done: Progress, params: transformer.Params) -> None:
        """Read the best step back. Earlier ones stay as long as the latest, which needs one.

        Args:
          params: of any step.
        """
        self.best.read_back(done.best_step, params)

    def saved(self) -> int:
        """The step that an attempt after this one goes on from."""
        return max(self.latest.steps(), default=0)
