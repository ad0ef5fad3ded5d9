"""What `specialm transfer` is asked for, and its examples."""

import dataclasses
from dataclasses import dataclass

from specialm.common.errors import UserError
from specialm.data import labelled
from specialm.data.labelled import Labelled
from specialm.models import transformer


@dataclass(frozen=True)
class Asked:
    """What `specialm transfer` was asked for.

    Attributes:
      task: labelled examples to learn, see `labelled.read`.
      valid: those for early stopping; "" holds out a part of `task`.
      tests: those that are scored.
      length: tokens of an example, at most; 0 for the model's window.
    """

    task: str
    valid: str = ""
    tests: tuple[str, ...] = ()
    length: int = 0


@dataclass(frozen=True)
class Task:
    """The examples of a task, read.

    Attributes:
      labels: of a classification, in the order of the head's outputs.
      longest: tokens of a window, at most.
    """

    kind: str
    labels: tuple[str, ...]
    train: Labelled
    valid: Labelled
    tests: tuple[Labelled, ...]
    longest: int


def read(asked: Asked, config: transformer.Config) -> Task:
    """Reads all examples, before anything is computed.

    Raises:
      UserError: see `labelled.read`; a set of another kind than --task, or with a label that it has
        not; a length that the model's window does not hold.
    """
    if not 0 <= asked.length <= config.context:
        raise UserError(
            f"--length={asked.length}: must be between 0 and the {config.context} tokens of "
            "the model's window."
        )
    if not asked.task:
        raise UserError("--task is missing: a file of labelled examples, or tfds:NAME.")
    given = labelled.read(asked.task, "task")
    if asked.valid:
        train, valid = given, labelled.read(asked.valid, "valid")
    else:
        train, valid = given.split()
        train = dataclasses.replace(train, left_out=given.left_out)
    tests = tuple(labelled.read(spec, "test") for spec in asked.tests)
    labels = labelled.labels(given.examples)
    for option, other in (("valid", valid), *(("test", test) for test in tests)):
        _check_same(f"--{option}={other.spec}", other, given.kind, labels)
    longest = asked.length or config.context
    return Task(given.kind, labels, train, valid, tests, longest)


def _check_same(given: str, other: Labelled, kind: str, labels: tuple[str, ...]) -> None:
    if other.kind != kind:
        raise UserError(f"{given}: is for {other.kind}, --task for {kind}.")
    unknown = {each.label for each in other.examples} - {*labels} if labels else set()
    if unknown:
        raise UserError(
            f"{given}: the label {min(unknown)!r} is none of those of --task: {', '.join(labels)}."
        )
