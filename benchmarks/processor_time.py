"""Training for so many minutes of this machine, counted in processor time.

A minute is a minute of all cores: seconds that the process kept processors busy, divided by the
number of cores. On a machine that does nothing else the clock shows a little more, as not all cores
always work; beside other work it shows much more, and the same is trained.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specialm.common.files import write_json
from specialm.data.sampler import Sampler
from specialm.models import families
from specialm.training import loop
from specialm.workflows import pipeline

CORES = os.cpu_count() or 1
SHORT, LONG = 8, 72  # steps of trials, the second at least
TRIAL = 0.05  # of the time, which the long one takes: in a short one the machine warms up
RESERVE = 0.95  # of the time that is planned with


class Watch:
    """Minutes of all cores since it was made."""

    def __init__(self) -> None:
        self._start = time.process_time()

    @property
    def minutes(self) -> float:
        return (time.process_time() - self._start) / 60 / CORES


@contextmanager
def measured(file: Path) -> Iterator[None]:
    """Writes into a file the minutes of what is done in it, unless the file is there."""
    watch = Watch()
    yield
    if not file.exists():
        write_json(file, {"minutes": watch.minutes})


def read(file: Path) -> float:
    """Minutes that `measured` has written."""
    return json.loads(file.read_text())["minutes"]


def tokens_for(run: pipeline.Run, method: str, file: Path, minutes: float) -> int:
    """Tokens that a method is pretrained on in so many minutes, compiling included.

    Args:
      file: has the answer of an earlier call; it is written otherwise.
    """
    if file.exists():
        return json.loads(file.read_text())["tokens"]
    config, context = run.model_config(method), run.generic.context
    given = families.constants(config, run.prepared.vocabulary.pieces)
    train = run.config.train.copy_and_resolve_references().unlock()
    train.tensorboard, train.log_every = False, 10**9
    step_tokens = train.batch_size * context

    def minutes_of(name: str, steps: int) -> float:
        train.tokens = steps * step_tokens
        sampler, watch = Sampler(len(run.generic), train.batch_size, 1), Watch()
        path = file.parent / name
        loop.pretrain(path, config, train, run.generic, sampler, 1, run.mesh, "trial", None, given)
        return watch.minutes

    first = minutes_of("first", SHORT)  # the others find the program compiled
    short = minutes_of("short", SHORT)
    many = max(LONG, int(TRIAL * minutes * SHORT / short))
    a_step = max(minutes_of("long", many) - short, 1e-9) / (many - SHORT)
    before = max(first - SHORT * a_step, 0.0)
    steps = max(int(RESERVE * (minutes - before) / a_step), 1)
    tokens = steps * step_tokens
    write_json(file, {"tokens": tokens, "minutes_per_step": a_step, "minutes_before": before})
    return tokens
