"""One model of a server: parameters, vocabulary, a worker, scores of texts."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from specialm.data.vocabularies import Vocabulary
from specialm.models import families
from specialm.models.config import Config
from specialm.serving import generate
from specialm.serving.decoding.engine import Engine
from specialm.serving.decoding.sampling import Sampling
from specialm.serving.decoding.scoring import Scorer
from specialm.serving.server.limits import Limits
from specialm.serving.server.worker import Worker
from specialm.training import runs


@dataclass
class Served:
    """One model."""

    name: str
    config: Config
    vocabulary: Vocabulary
    worker: Worker
    created: int  # seconds since the epoch
    about: dict = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What clients are told of it."""
        return describe(self.name, self.config, self.vocabulary, self.created, self.about)

    async def score(self, text: str) -> list[tuple[bytes, float]]:
        """(bytes, -log2 p) of each token of a text, and at last of its end (no bytes)."""
        tokens = [*self.vocabulary.encode([text])[0], self.vocabulary.eos]
        contents = self.vocabulary.token_bytes
        found: list[tuple[bytes, float]] = []
        for first in range(0, len(tokens), self.config.context):
            window = tokens[first : first + self.config.context]
            bits = await self.worker.call(partial(self._bits, window))
            found += zip((contents[token] for token in window), bits.tolist(), strict=True)
        return found

    def _bits(self, window: list[int]) -> np.ndarray:
        scorer = Scorer(self.worker.engine.params, self.config, self.vocabulary.start)
        return scorer.nats(window) / np.log(2)


def describe(
    name: str, config: Config, vocabulary: Vocabulary, created: int, about: dict
) -> dict[str, Any]:
    """What clients are told of a model."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "specialm",
        "max_model_len": config.context,
        "has_chat": vocabulary.chat_template is not None,
        **about,
    }


def facts(model: runs.Model) -> tuple[int, dict]:
    """(when a run folder was written, what its record says) for `Served`."""
    about = {key: model.record[key] for key in ("method", "domain", "seed") if key in model.record}
    return int((model.path / "model.json").stat().st_mtime), about


def served(name: str, model: runs.Model, limits: Limits) -> Served:
    """A model, ready to work.

    Raises:
      UserError: it is not causal.
    """
    config, vocabulary = families.dense(model.config), model.vocabulary
    engine = generate.engine(model.params, config, vocabulary, limits.rows)
    return Served(name, config, vocabulary, Worker(engine.anew, limits.waiting), *facts(model))


def warm_up(engine: Engine) -> None:
    """Compiles what a first request needs, before it comes."""
    engine = engine.anew()
    for _ in range(2):
        generate.complete(engine, [[engine.vocabulary.start]], Sampling(tokens=2, temperature=1.0))
