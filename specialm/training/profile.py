"""JAX's trace of a few steps of a run, into RUN/profile: what the device does, and when."""

import sys
from pathlib import Path
from typing import Any

import jax

from specialm.common import processes

WARM = 2  # steps before it: they compile, and fill the caches


class Profile:
    """Traces `steps` steps from the third on, counted from where the run starts or goes on.

    RUN/profile is read by TensorBoard's profiler (xprof); the file perfetto_trace.json.gz in it, by
    https://ui.perfetto.dev. With several processes each traces its own devices.

    Args:
      path: the run folder.
      steps: how many; 0 traces nothing.
      first: the number of the first step of this session.
    """

    def __init__(self, path: Path, steps: int, first: int):
        self._folder, self._steps = path / "profile", steps
        self._start, self._stop = first + WARM, first + WARM + steps
        self._running = self._done = False

    def before(self, number: int) -> None:
        """Called before step `number` is dispatched."""
        if self._steps and number == self._start:
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
            self._running = True

    def after(self, number: int, values: Any) -> None:
        """Called when step `number`, which computes `values`, has been dispatched."""
        if self._running and number + 1 == self._stop:
            self._end(values)

    def close(self, values: Any) -> None:
        """Called after the last step; says so if there were too few steps for a trace."""
        if self._running:
            self._end(values)
        elif not self._done:
            say_nothing_traced(self._steps, f"this session had no step after its first {WARM}")

    def _end(self, values: Any) -> None:
        jax.block_until_ready(values)
        jax.profiler.stop_trace()
        self._running, self._done = False, True


def say_nothing_traced(steps: int, why: str) -> None:
    """Says on standard error that there is no trace, if one was asked for."""
    if steps and processes.is_first():
        print(f"train.profile_steps={steps}: no step was traced, as {why}.", file=sys.stderr)
