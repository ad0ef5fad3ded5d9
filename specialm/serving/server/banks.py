"""A bank or a mixture behind the names of its domains: `BANK/DOMAIN`.

The parameters of all experts are held once. A domain's small model is computed from them by its
mixing coefficients when it is first asked for, and stays until others are asked for more recently;
what it has in common with the others is held once for all of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.models import families
from specialm.serving import generate
from specialm.serving.server.limits import Limits, Refused
from specialm.serving.server.served import Served, describe, facts, warm_up
from specialm.serving.server.worker import Worker
from specialm.training import runs


class Bank:
    """The domains of one bundle.

    Args:
      name: before the slash.
      model: a bank or a mixture.
      experts: what it knows of its clusters.
      mixes: {domain: float64 [k], its mixing coefficients}; at least one.
      limits: `held` of the models are in memory at most.

    Raises:
      UserError: no domain.
    """

    def __init__(
        self,
        name: str,
        model: runs.Model,
        experts: runs.Experts,
        mixes: Mapping[str, np.ndarray],
        limits: Limits,
    ):
        if not mixes:
            raise UserError(
                f"--bundle={model.path}: there is no domain of it; specialise it with `specialm "
                "specialize --bundle --sources` and give what that wrote with --domains."
            )
        self.name, self._limits = name, limits
        self._model, self._features_kxC = model, experts.features_kxC
        self._config, self._mixes = families.dense(model.config), dict(mixes)
        self._project = jax.jit(partial(families.expert, model.config))
        self._held: OrderedDict[str, Served] = OrderedDict()  # the least recently asked for first
        self._lock, self._projecting = threading.Lock(), threading.Lock()
        first = next(iter(self._mixes))
        self._engine = generate.engine(
            self._params(first), self._config, model.vocabulary, limits.rows
        )
        warm_up(self._engine)

    def listed(self) -> dict[str, dict]:
        """{name: what clients are told of the model} of every domain."""
        vocabulary = self._model.vocabulary
        return {
            f"{self.name}/{domain}": describe(
                f"{self.name}/{domain}", self._config, vocabulary, *self._facts(domain)
            )
            for domain in self._mixes
        }

    def _facts(self, domain: str) -> tuple[int, dict]:
        created, about = facts(self._model)
        return created, {**about, "domain": domain}

    def in_memory(self) -> list[Served]:
        """The models that are held."""
        with self._lock:
            return list(self._held.values())

    def held(self, domain: str) -> Served | None:
        """The model of a domain, if it is in memory."""
        with self._lock:
            if domain in self._held:
                self._held.move_to_end(domain)
            return self._held.get(domain)

    def get(self, domain: str) -> Served:
        """The model of a domain, in memory from now on.

        Raises:
          Refused: all that are in memory are at work (503).
        """
        with self._projecting:  # one at a time
            if found := self.held(domain):
                return found
            self._make_room()
            made = self._served(domain)
            with self._lock:
                self._held[domain] = made
            return made

    def _make_room(self) -> None:
        with self._lock:
            if len(self._held) < self._limits.held:
                return
            for domain, served in self._held.items():
                if not served.worker.unfinished:
                    served.worker.retire()
                    del self._held[domain]
                    return
        raise Refused(
            503,
            f"all {self._limits.held} models of {self.name} that are held in memory are at work; "
            "try again.",
            retry=True,
        )

    def _served(self, domain: str) -> Served:
        engine = self._engine.with_params(self._params(domain))
        worker = Worker(engine.anew, self._limits.waiting)
        worker.start()
        name, vocabulary = f"{self.name}/{domain}", self._model.vocabulary
        return Served(name, self._config, vocabulary, worker, *self._facts(domain))

    def _params(self, domain: str):
        mix_k = np.asarray(self._mixes[domain], np.float32)
        return self._project(self._model.params, self._features_kxC, mix_k)
