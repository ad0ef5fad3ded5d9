"""Things that are timed in turn, round after round, so that a machine that others slow down slows
all of them.
"""

import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import jax
from ml_collections import ConfigDict

from specialm.models import transformer
from specialm.training import optimizer, sharding, step

Name = TypeVar("Name", bound=Hashable)


class Training:
    """A dense model in training, on the same few batches again and again."""

    def __init__(
        self,
        model: transformer.Config,
        train: ConfigDict,
        batches: list[dict],
        pieces=None,
        rounding=None,
    ):
        mesh = sharding.make_mesh(len(batches[0]["inputs"]))
        tx = optimizer.make(train, 1000, transformer.declare(model))
        self._batches = [sharding.put_batch(mesh, batch) for batch in batches]
        given = transformer.constants(model, pieces)
        self._state = step.init_state(model, tx, mesh, jax.random.key(0), constants=given)
        self._step, self.model = step.make_train_step(model, tx, mesh, rounding=rounding), model

    def steps(self, count: int) -> None:
        """Takes so many steps, of which two are under way at most, as in training: many at once can
        hang where the devices are simulated.
        """
        pending = None
        for number in range(count):
            batch = self._batches[number % len(self._batches)]
            self._state, metrics = self._step(self._state, batch)
            if pending is not None:
                pending.block_until_ready()
            pending = metrics["loss"]
        jax.block_until_ready(self._state)

    @property
    def params(self) -> transformer.Params:
        return jax.device_get(self._state.params)


def timed(
    sides: dict[Name, Callable[[int], None]], rounds: int, count: int = 0, least: float = 1.0
) -> dict[Name, list[float]]:
    """{side: seconds of one, in each round}.

    Args:
      sides: what does its job so many times.
      count: of a side in a round; 0: as often as `least` seconds allow, so that quick sides are
        timed as exactly as slow ones.
    """
    counts = {}
    for side, run in sides.items():
        run(count or 1)  # compiles
        started = time.perf_counter()
        run(count or 2)
        one = (time.perf_counter() - started) / (count or 2)
        counts[side] = count or max(1, round(least / one))
    found: dict[Name, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            started = time.perf_counter()
            run(counts[side])
            found[side].append((time.perf_counter() - started) / counts[side])
    return found
