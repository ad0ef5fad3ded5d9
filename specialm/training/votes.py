"""Whether any process of a job was asked to stop, known to all of them at the same step.

A signal may reach one process only, or each at another step, but all have to save the same step.
So each votes at every step, and the devices add the votes up while they work; the sum is read one
step late, as the metrics are.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from specialm.common import processes
from specialm.common.signals import Interrupted, Stop
from specialm.training import sharding


class Votes:
    """Asks `stop` of this process, and all others theirs."""

    def __init__(self, stop: Stop, mesh: jax.sharding.Mesh):
        self._stop, self._mesh = stop, mesh
        self._pending: jax.Array | None = None
        self._largest = _largest(mesh) if processes.count() > 1 else None

    def number(self) -> int:
        """Return the signal to stop for after this step, or 0; the same in all processes."""
        if self._largest is None:
            return self._stop.number
        before, mine = self._pending, np.array([self._stop.number], np.int32)
        places = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        votes = jax.make_array_from_callback((self._mesh.size,), places, lambda _: mine)
        self._pending = self._largest(votes)
        return 0 if before is None else int(before)

    def end(self, saved: str) -> None:
        """After the last step: what came since is not forgotten.

        Raises:
          Interrupted: a signal did, in any process.

        """
        number = max(processes.run_on_all("signals", lambda: self._stop.number))
        if number:
            raise Interrupted(number, saved)


def _largest(mesh: jax.sharding.Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jnp.max, out_shardings=sharding.replicated(mesh))
